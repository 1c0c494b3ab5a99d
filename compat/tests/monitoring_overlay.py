"""Lay the test layer that was built over CPython's own, at start-up.

A .pth file imports this in every interpreter of the virtual environment, the
isolated processes that tests start included.
"""

try:
    import _testcapi
    import _monitoring_layer
    from test import support
except ImportError:
    # An interpreter with a GIL of its own does not load _testcapi.
    pass
else:
    # Not in 3.12.
    if not hasattr(support, "Py_GIL_DISABLED"):
        support.Py_GIL_DISABLED = False
    for name, value in vars(_monitoring_layer).items():
        if not name.startswith("__"):
            setattr(_testcapi, name, value)
