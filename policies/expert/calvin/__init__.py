"""Scripted experts for CALVIN's 34 tasks, from privileged state."""
