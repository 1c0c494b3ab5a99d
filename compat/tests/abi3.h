/* The API as the module _monitoring_abi3 has it, for the test layer in place of
   the header: functions that are built once, with the limited C-API. */

/* The header's own ids. */
#define ABI3_EVENTS(X) \
    X(PY_START, 32) X(PY_RESUME, 33) X(PY_RETURN, 34) X(PY_YIELD, 35) \
    X(CALL, 36) X(LINE, 37) X(JUMP, 38) X(BRANCH, 40) \
    X(BRANCH_LEFT, 39) X(BRANCH_RIGHT, 40) X(STOP_ITERATION, 41) \
    X(RAISE, 42) X(EXCEPTION_HANDLED, 43) X(PY_UNWIND, 44) X(PY_THROW, 45) \
    X(RERAISE, 46) X(INSTRUCTION, 47) X(C_RETURN, 48) X(C_RAISE, 49)

#define ABI3_PLAIN(X) \
    X(FirePyStartEvent) X(FirePyResumeEvent) X(FirePyThrowEvent) \
    X(FireRaiseEvent) X(FireReraiseEvent) X(FireExceptionHandledEvent) \
    X(FirePyUnwindEvent) X(FireCRaiseEvent)
#define ABI3_VALUE(X) \
    X(FirePyReturnEvent) X(FirePyYieldEvent) X(FireJumpEvent) \
    X(FireBranchEvent) X(FireBranchLeftEvent) X(FireBranchRightEvent) \
    X(FireStopIterationEvent) X(FireCReturnEvent)
#define ABI3_CALL(X) \
    X(FireCallEvent) X(FireCallReturnEvent) X(FireCallRaiseEvent)

#ifdef Py_LIMITED_API
#  include "pymonitoring_compat.h"
#else
#  include <Python.h>
#  if PY_VERSION_HEX < 0x030D0000
typedef struct {
    uint8_t active;
    uint8_t opaque;
} PyMonitoringState;
#  endif
#  ifndef PyCode_LOCATION_OFFSET
typedef struct {
    int lineno;
    int end_lineno;
    int col_offset;
    int end_col_offset;
} PyCodeLocation;
#    define PyCode_LOCATION_OFFSET(i) ((int32_t)(2 * (i)))
#  endif
#endif

#define ABI3_DECLARE_PLAIN(NAME) \
    int abi3_ ## NAME(PyMonitoringState *, PyObject *, int32_t);
#define ABI3_DECLARE_VALUE(NAME) \
    int abi3_ ## NAME(PyMonitoringState *, PyObject *, int32_t, PyObject *);
#define ABI3_DECLARE_CALL(NAME) \
    int abi3_ ## NAME(PyMonitoringState *, PyObject *, int32_t, PyObject *, \
                      PyObject *);
ABI3_PLAIN(ABI3_DECLARE_PLAIN)
ABI3_VALUE(ABI3_DECLARE_VALUE)
ABI3_CALL(ABI3_DECLARE_CALL)
int abi3_EnterScope(PyMonitoringState *, uint64_t *, const uint8_t *,
                    Py_ssize_t);
int abi3_ExitScope(void);
int abi3_FireLineEvent(PyMonitoringState *, PyObject *, int32_t, int);
PyObject *abi3_Vectorcall(PyMonitoringState *, PyMonitoringState *,
                          PyMonitoringState *, PyObject *, int32_t, PyObject *,
                          PyObject *const *, size_t, PyObject *);
int abi3_SetFrameNamespaces(PyMonitoringState *, PyObject *, PyObject *,
                            PyObject *);
int abi3_AddTraceback(PyObject *, int32_t, int);
PyObject *abi3_NewWithLocations(PyObject *, PyObject *, PyObject *, int,
                                const PyCodeLocation *, Py_ssize_t);

#ifndef Py_LIMITED_API
#  undef PY_MONITORING_EVENT_PY_START
#  undef PY_MONITORING_EVENT_PY_RESUME
#  undef PY_MONITORING_EVENT_PY_RETURN
#  undef PY_MONITORING_EVENT_PY_YIELD
#  undef PY_MONITORING_EVENT_CALL
#  undef PY_MONITORING_EVENT_LINE
#  undef PY_MONITORING_EVENT_INSTRUCTION
#  undef PY_MONITORING_EVENT_JUMP
#  undef PY_MONITORING_EVENT_BRANCH
#  undef PY_MONITORING_EVENT_BRANCH_LEFT
#  undef PY_MONITORING_EVENT_BRANCH_RIGHT
#  undef PY_MONITORING_EVENT_STOP_ITERATION
#  undef PY_MONITORING_EVENT_RAISE
#  undef PY_MONITORING_EVENT_EXCEPTION_HANDLED
#  undef PY_MONITORING_EVENT_PY_UNWIND
#  undef PY_MONITORING_EVENT_PY_THROW
#  undef PY_MONITORING_EVENT_RERAISE
#  undef PY_MONITORING_EVENT_C_RETURN
#  undef PY_MONITORING_EVENT_C_RAISE
#  define ABI3_ID(NAME, ID) PY_MONITORING_EVENT_ ## NAME = ID,
enum { ABI3_EVENTS(ABI3_ID) };
#  undef PyCode_NewWithLocations
#  define PyCode_NewWithLocations abi3_NewWithLocations
#  define PyMonitoring_EnterScope abi3_EnterScope
#  define PyMonitoring_ExitScope abi3_ExitScope
#  define PyMonitoring_FirePyStartEvent abi3_FirePyStartEvent
#  define PyMonitoring_FirePyResumeEvent abi3_FirePyResumeEvent
#  define PyMonitoring_FirePyReturnEvent abi3_FirePyReturnEvent
#  define PyMonitoring_FirePyYieldEvent abi3_FirePyYieldEvent
#  define PyMonitoring_FireCallEvent abi3_FireCallEvent
#  define PyMonitoring_FireLineEvent abi3_FireLineEvent
#  define PyMonitoring_FireJumpEvent abi3_FireJumpEvent
#  define PyMonitoring_FireBranchEvent abi3_FireBranchEvent
#  define PyMonitoring_FireBranchLeftEvent abi3_FireBranchLeftEvent
#  define PyMonitoring_FireBranchRightEvent abi3_FireBranchRightEvent
#  define PyMonitoring_FireCallReturnEvent abi3_FireCallReturnEvent
#  define PyMonitoring_FireCallRaiseEvent abi3_FireCallRaiseEvent
#  define PyMonitoring_FireCReturnEvent abi3_FireCReturnEvent
#  define PyMonitoring_FireCRaiseEvent abi3_FireCRaiseEvent
#  define PyMonitoring_Vectorcall abi3_Vectorcall
#  define PyMonitoring_FirePyThrowEvent abi3_FirePyThrowEvent
#  define PyMonitoring_FireRaiseEvent abi3_FireRaiseEvent
#  define PyMonitoring_FireReraiseEvent abi3_FireReraiseEvent
#  define PyMonitoring_FireExceptionHandledEvent abi3_FireExceptionHandledEvent
#  define PyMonitoring_FirePyUnwindEvent abi3_FirePyUnwindEvent
#  define PyMonitoring_FireStopIterationEvent abi3_FireStopIterationEvent
#  define PyMonitoring_SetFrameNamespaces abi3_SetFrameNamespaces
#  define PyMonitoring_AddTraceback abi3_AddTraceback
#endif
