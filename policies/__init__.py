"""Policies: the recurrent-depth model with its exit and horizon rules, scripted experts, baselines."""
