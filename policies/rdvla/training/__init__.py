"""Training of RD-VLA: randomised recurrence, truncated backpropagation, and a run that resumes to the same bits.

Every random draw of a run is a function of (seed, purpose, step), so a checkpoint holds weights, moments and a step
number and no generator states; see ``rdvla_bench.seeding``.
"""
