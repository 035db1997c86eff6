"""GL contexts without a window, made with ctypes alone: EGL on a device, OSMesa into memory.

Made like this, neither environment variables nor the order of imports matter, and the OSMesa bundled in a wheel works
in a running process.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_void_p
from pathlib import Path
from typing import Protocol

import numpy as np

from rdvla_bench.errors import NoRenderer

_SIZE = (640, 480)  # robosuite 1.4.0 MjRenderContextOffscreen
_GL_RENDERER, _GL_UNSIGNED_BYTE = 0x1F01, 0x1401


class Context(Protocol):
    """A GL context without a window."""

    def make_current(self) -> None:
        """Bind the context to this thread."""

    def renderer_name(self) -> str:
        """Return GL_RENDERER; the context must be current."""


class OSMesa:
    """Mesa's off-screen context: software, into memory."""

    def __init__(self, library: str) -> None:
        """Load ``library`` and make a context in it."""
        if "/" in library:
            _load_neighbours(Path(library))
        lib = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)  # global: MuJoCo looks OSMesaGetProcAddress up by name
        lib.OSMesaCreateContextExt.restype = c_void_p
        lib.OSMesaCreateContextExt.argtypes = [c_uint, c_int, c_int, c_int, c_void_p]
        lib.OSMesaMakeCurrent.argtypes = [c_void_p, c_void_p, c_uint, c_int, c_int]
        lib.OSMesaGetProcAddress.restype = c_void_p
        lib.OSMesaGetProcAddress.argtypes = [c_char_p]
        self._lib = lib
        # OSMESA_RGBA, 24 bits of depth, 8 of stencil, no accumulation buffer: as mujoco.osmesa.GLContext asks
        self._context = lib.OSMesaCreateContextExt(0x1908, 24, 8, 0, None)
        if not self._context:
            raise NoRenderer(f"OSMesa ({library}) made no context")
        self._buffer = np.zeros((_SIZE[1], _SIZE[0], 4), np.uint8)

    def make_current(self) -> None:
        """Bind the context to this thread."""
        size = (c_int(_SIZE[0]), c_int(_SIZE[1]))
        if not self._lib.OSMesaMakeCurrent(self._context, self._buffer.ctypes.data, _GL_UNSIGNED_BYTE, *size):
            raise NoRenderer("OSMesa's context could not be made current")

    def renderer_name(self) -> str:
        """Return GL_RENDERER; the context must be current."""
        return _gl_string(self._lib.OSMesaGetProcAddress(b"glGetString"))


class EGL:
    """A context on one EGL device, without a surface."""

    def __init__(self, library: str, device: int) -> None:
        """Make a context on the ``device``-th EGL device."""
        lib = egl_library(library)
        devices = egl_devices(lib)
        if not 0 <= device < len(devices):
            raise NoRenderer(f"EGL has {len(devices)} devices, device {device} was asked for")
        get_display = _egl_function(lib, b"eglGetPlatformDisplayEXT", c_void_p, c_uint, c_void_p, c_void_p)
        display = get_display(0x313F, devices[device], None)  # EGL_PLATFORM_DEVICE_EXT
        if not display or not lib.eglInitialize(display, None, None):
            raise NoRenderer(f"EGL device {device} could not be initialised")
        # 8 bits of red, green, blue, alpha and stencil, 24 of depth, pbuffer, OpenGL: as mujoco.egl.GLContext asks
        pairs = (0x3024, 8, 0x3023, 8, 0x3022, 8, 0x3021, 8, 0x3025, 24, 0x3026, 8, 0x303F, 0x308E, 0x3033, 1)
        attributes = (c_int * 19)(*pairs, 0x3040, 8, 0x3038)
        config, n_configs = c_void_p(), c_int()
        lib.eglChooseConfig(display, attributes, byref(config), 1, byref(n_configs))
        lib.eglBindAPI(0x30A2)  # EGL_OPENGL_API
        context = lib.eglCreateContext(display, config, None, None) if n_configs.value else None
        if not context:
            raise NoRenderer(f"EGL device {device} offers no OpenGL context")
        self._lib, self._display, self._context = lib, display, context

    def make_current(self) -> None:
        """Bind the context to this thread."""
        self._lib.eglBindAPI(0x30A2)
        if not self._lib.eglMakeCurrent(self._display, None, None, self._context):
            raise NoRenderer(f"EGL's context could not be made current (error {self._lib.eglGetError():#x})")

    def renderer_name(self) -> str:
        """Return GL_RENDERER; the context must be current."""
        return _gl_string(self._lib.eglGetProcAddress(b"glGetString"))


def egl_library(name: str) -> ctypes.CDLL:
    """Load libEGL and declare what is called of it."""
    lib = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)  # global: MuJoCo looks eglGetProcAddress up by name
    lib.eglGetProcAddress.restype = c_void_p
    lib.eglGetProcAddress.argtypes = [c_char_p]
    lib.eglInitialize.argtypes = [c_void_p, c_void_p, c_void_p]
    lib.eglChooseConfig.argtypes = [c_void_p, c_void_p, c_void_p, c_int, c_void_p]
    lib.eglCreateContext.restype = c_void_p
    lib.eglCreateContext.argtypes = [c_void_p, c_void_p, c_void_p, c_void_p]
    lib.eglMakeCurrent.argtypes = [c_void_p, c_void_p, c_void_p, c_void_p]
    return lib


def _egl_function(lib: ctypes.CDLL, name: bytes, result: type | None, *arguments: type) -> ctypes._FuncPointer:
    address = lib.eglGetProcAddress(name)
    if not address:
        raise NoRenderer(f"EGL lacks {name.decode()}")
    return ctypes.CFUNCTYPE(result, *arguments)(address)


def egl_devices(lib: ctypes.CDLL) -> list[int]:
    """Return the handles of the EGL devices, in EGL's order."""
    query = _egl_function(lib, b"eglQueryDevicesEXT", c_uint, c_int, POINTER(c_void_p), POINTER(c_int))
    devices, n_devices = (c_void_p * 32)(), c_int()
    if not query(32, devices, byref(n_devices)):
        return []
    return [device for device in devices[: n_devices.value] if device]


def _gl_string(address: int) -> str:
    value = ctypes.CFUNCTYPE(c_char_p, c_uint)(address)(_GL_RENDERER)
    return value.decode() if value else ""


def _load_neighbours(library: Path) -> None:
    """Load what ``library`` needs from its own folder: the wheel gives its libraries no search path."""
    waiting = sorted(path for path in library.parent.iterdir() if path != library)
    for _ in range(len(waiting)):
        later = []
        for path in waiting:
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
            except OSError:  # it needs another one first
                later.append(path)
        waiting = later
