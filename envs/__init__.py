"""Simulators behind one Gymnasium face."""
