"""LIBERO: five suites, 130 tasks, on the robosuite simulator."""
