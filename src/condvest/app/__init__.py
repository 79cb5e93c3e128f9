"""The one place where settings become wired objects, and one function a command that acts on them."""

from condvest.app.wiring import App

__all__ = ["App"]
