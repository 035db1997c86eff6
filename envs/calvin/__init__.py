"""CALVIN: four scenes, 34 tasks, chains of five instructions; built anew on PyBullet from numbers."""
