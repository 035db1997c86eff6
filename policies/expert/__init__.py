"""Scripted experts for LIBERO, from privileged state."""
