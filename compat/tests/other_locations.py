"""What PyCode_NewWithLocations() makes where the interpreter reads location
tables in another way than the header writes them."""

import sys
import traceback

import _monitoring_layer as layer

M = sys.monitoring

code = layer.code_newwithlocations("page.src", "page", "a.page", 17,
                                   [(20 + i, 20 + i, i, 9) for i in range(9)])
assert (code.co_filename, code.co_name, code.co_qualname,
        code.co_firstlineno) == ("page.src", "page", "a.page", 17), code
# No location is better than a wrong one.
assert {line for *_, line in code.co_lines()} <= {17, None}, code
M.use_tool_id(3, "test")
M.set_local_events(3, code, M.events.LINE)
seen = []
M.register_callback(3, M.events.LINE, lambda *args: seen.append(args))
layer.one_state_each(code, lambda: None)
M.set_local_events(3, code, 0)
assert seen == [(code, 1), (code, 2)], seen
for run in exec, eval:
    try:
        run(code)
    except AssertionError:
        pass
    else:
        raise ValueError("nothing was raised")
exc = LookupError()
layer.monitoring_add_traceback(exc, code, 4, 22)
assert '"page.src", line 22' in "".join(traceback.format_tb(exc.__traceback__))
