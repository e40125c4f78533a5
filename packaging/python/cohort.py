# SPDX-License-Identifier: Apache-2.0
"""Cohort for Python, by ctypes on its C library: ordered parallel jobs, counters per CPU, a model of cpusets.

    import cohort, zlib

    with cohort.Padata() as pool, cohort.Shell(pool) as stream:
        for block in blocks:
            stream.submit(zlib.compress, block, then=lambda packed, error: out.write(packed))
        stream.drain()

Jobs run on the library's threads and hold Python's lock while they are in Python: what is gained is what they do without it (compression, hashing, reading, numpy).
`then` is called in the order of submission, whatever finishes first. Errors of the library are cohort.Error, an OSError with its sentence.
The library is libcohort.so.0; the variable COHORT_LIBRARY names another.
"""
import ctypes
import itertools
import os

__all__ = ["Error", "Padata", "Shell", "PerCpu", "Counter", "Rwsem", "Cpuset", "core_facility", "possible_cpus", "version"]

_lib = ctypes.CDLL(os.environ.get("COHORT_LIBRARY", "libcohort.so.0"))
_p, _int, _size, _text = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p
_PARALLEL = ctypes.CFUNCTYPE(None, _p)
_SERIAL = ctypes.CFUNCTYPE(None, _p, _int)
_RUN = ctypes.CFUNCTYPE(_int, _p, _size, _size)
_UNDO = ctypes.CFUNCTYPE(None, _p, _size, _size)


class _PadataOptions(ctypes.Structure):
    _fields_ = [("struct_size", _size), ("name", _text), ("parallel_cpus", _text), ("serial_cpus", _text), ("max_workers", _int), ("no_threads", _int), ("tenant", _p)]


class _ShellOptions(ctypes.Structure):
    _fields_ = [("struct_size", _size), ("window", ctypes.c_uint32), ("window_bytes", ctypes.c_uint64), ("when_full", _int), ("no_inline", _int)]


class _ShellStats(ctypes.Structure):
    _fields_ = [("struct_size", _size)] + [(n, ctypes.c_uint64) for n in ("submitted", "delivered", "ran_inline", "handovers", "waits", "failed", "batches")] + [("job_ns", ctypes.c_double)]


class _MtJob(ctypes.Structure):
    _fields_ = [("struct_size", _size), ("run", _RUN), ("undo", _UNDO), ("arg", _p), ("start", _size), ("size", _size), ("align", _size), ("min_chunk", _size), ("max_chunk", _size),
                ("max_threads", _int), ("numa_aware", _int)]


_i64, _u64, _u32 = ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint
# name: (result, arguments). test_cohort.py holds this against cohort.h.
_FUNCTIONS = {
    "version": (_text, []), "version_number": (_int, []), "last_error": (_text, []),
    "padata_alloc": (_int, [ctypes.POINTER(_PadataOptions), ctypes.POINTER(_p)]), "padata_free": (None, [_p]), "padata_set_cpumask": (_int, [_p, _int, _text]),
    "padata_cpumask": (_int, [_p, _int, _text, _size]), "padata_user_cpumask": (_int, [_p, _int, _text, _size]), "padata_stopped": (_int, [_p, _text, _size]), "padata_poll": (_int, [_p]),
    "control_alloc": (_int, [_p, _text, ctypes.POINTER(_p)]), "control_free": (None, [_p]), "control_directory": (_text, [_p]),
    "shell_alloc": (_int, [_p, ctypes.POINTER(_ShellOptions), ctypes.POINTER(_p)]), "shell_free": (None, [_p]), "shell_submit": (_int, [_p, _PARALLEL, _SERIAL, _p]),
    "shell_drain": (_int, [_p]), "shell_cancel": (None, [_p]), "shell_stats_get": (_int, [_p, ctypes.POINTER(_ShellStats)]),
    "padata_do_multithreaded": (_int, [_p, ctypes.POINTER(_MtJob)]), "possible_cpus": (_u32, []),
    "percpu_alloc": (_int, [_size, _size, _u32, ctypes.POINTER(_u64)]), "percpu_free": (_int, [_u64]), "percpu_add_u64": (None, [_u64, _u64]), "percpu_sum_u64": (_u64, [_u64]),
    "percpu_ptr": (_p, [_u64, _u32]), "percpu_stats_json": (_int, [_text, _size]),
    "counter_alloc": (_int, [_i64, _i64, ctypes.POINTER(_p)]), "counter_free": (None, [_p]), "counter_add": (None, [_p, _i64]), "counter_read": (_i64, [_p]), "counter_sum": (_i64, [_p]),
    "counter_compare": (_int, [_p, _i64]), "counter_limited_add": (_int, [_p, _i64, _i64]), "counter_set": (None, [_p, _i64]),
    "rwsem_alloc": (_int, [ctypes.POINTER(_p)]), "rwsem_free": (None, [_p]), "rwsem_read_lock": (None, [_p]), "rwsem_read_trylock": (_int, [_p]), "rwsem_read_unlock": (None, [_p]),
    "rwsem_write_lock": (None, [_p]), "rwsem_write_trylock": (_int, [_p]), "rwsem_write_unlock": (None, [_p]),
    "cpuset_alloc": (_int, [_text, _text, _int, ctypes.POINTER(_p)]), "cpuset_free": (None, [_p]), "cpuset_perform": (_int, [_p, _text, _text, _size]), "core_facility": (_int, [_text, _size]),
}
for _name, (_result, _arguments) in _FUNCTIONS.items():
    _f = getattr(_lib, "cohort_" + _name)
    _f.restype, _f.argtypes = _result, _arguments


class Error(OSError):
    """A refusal of the library: errno, and its sentence as strerror."""


def _check(code):
    if code < 0:
        raise Error(-code, _lib.cohort_last_error().decode())
    return code


def _string(call):
    """The text of a function that tells how long it is."""
    size = 256
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = _check(call(buffer, size))
        if length < size:
            return buffer.value.decode()
        size = length + 1


def _bytes(text):
    return None if text is None else text.encode()


def version():
    """The library's version, "0.1.0"."""
    return _lib.cohort_version().decode()


def possible_cpus():
    """CPUs that may ever be there: the copies of a PerCpu."""
    return _lib.cohort_possible_cpus()


class _Handle:
    """An object of the library: freed by close(), at the end of `with`, or with the last reference."""

    _handle, _free = None, None

    def close(self):
        handle, self._handle = self._handle, None
        if handle:
            self._free(handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()

    @property
    def _open(self):
        if not self._handle:
            raise ValueError("it is closed")
        return self._handle


class Padata(_Handle):
    """Workers and two CPU masks, in list form "0-3,8". Close its shells first; a `with` of both does."""

    _free = _lib.cohort_padata_free

    def __init__(self, name=None, parallel_cpus=None, serial_cpus=None, max_workers=0, no_threads=False):
        options = _PadataOptions(ctypes.sizeof(_PadataOptions), _bytes(name), _bytes(parallel_cpus), _bytes(serial_cpus), max_workers, no_threads, None)
        out = _p()
        _check(_lib.cohort_padata_alloc(options, out))
        self._handle = out.value

    def set_cpus(self, parallel=None, serial=None):
        """Changes a mask while jobs fly; their order is kept."""
        for which, cpus in enumerate((parallel, serial)):
            if cpus is not None:
                _check(_lib.cohort_padata_set_cpumask(self._open, which, cpus.encode()))

    @property
    def parallel_cpus(self):
        return _string(lambda t, n: _lib.cohort_padata_cpumask(self._open, 0, t, n))

    @property
    def serial_cpus(self):
        return _string(lambda t, n: _lib.cohort_padata_cpumask(self._open, 1, t, n))

    def poll(self):
        """Lends this thread for one batch of work; True if there was any."""
        return bool(_lib.cohort_padata_poll(self._open))

    def do_multithreaded(self, run, size, start=0, align=1, min_chunk=0, max_threads=0, undo=None):
        """run(begin, end) over chunks of start .. start + size, by several threads. The first exception stops the rest, undo(begin, end) is called for what was finished, and it is raised."""
        failed = []

        def body(_, begin, end):
            try:
                run(begin, end)
                return 0
            except BaseException as e:  # carried to the caller
                failed.append(e)
                return 125  # ECANCELED

        def back(_, begin, end):
            try:
                undo(begin, end)
            except BaseException as e:
                failed.append(e)

        job = _MtJob(ctypes.sizeof(_MtJob), _RUN(body), _UNDO(back) if undo else _UNDO(), None, start, size, align, min_chunk, 0, max_threads, 0)
        code = _lib.cohort_padata_do_multithreaded(self._open, job)
        if failed:
            raise failed[0]
        _check(code)


# Jobs in flight by their number; the library carries the number.
_jobs, _numbers = {}, itertools.count(1)


class _Job:
    __slots__ = ("work", "args", "then", "result", "error", "shell")


def _parallel(number):
    job = _jobs[number]
    try:
        job.result = job.work(*job.args)
    except BaseException as e:  # in order, to `then` or to drain()
        job.error = e


def _serial(number, info):
    job = _jobs.pop(number)
    if info and job.error is None:
        job.error = Error(-info, os.strerror(-info))
    try:
        if job.then:
            job.then(job.result, job.error)
        elif job.error is not None:
            job.shell._failed.append(job.error)
    except BaseException as e:
        job.shell._failed.append(e)


_parallel_c, _serial_c = _PARALLEL(_parallel), _SERIAL(_serial)


class Shell(_Handle):
    """An independent ordered stream of jobs on a Padata. `window`: jobs in flight at most (1024); when it is full, submit() helps."""

    _free = _lib.cohort_shell_free

    def __init__(self, padata, window=0, no_inline=False):
        self._padata, self._failed = padata, []
        out = _p()
        _check(_lib.cohort_shell_alloc(padata._open, _ShellOptions(ctypes.sizeof(_ShellOptions), window, 0, 0, no_inline), out))
        self._handle = out.value

    def submit(self, work, *args, then=None):
        """work(*args) in parallel; then(result, error) in the order of submission. Without `then`, drain() raises what work raised."""
        job = _Job()
        job.work, job.args, job.then, job.result, job.error, job.shell = work, args, then, None, None, self
        number = next(_numbers)
        _jobs[number] = job
        code = _lib.cohort_shell_submit(self._open, _parallel_c, _serial_c, number)
        if code < 0:
            _jobs.pop(number, None)
            _check(code)

    def drain(self):
        """Waits until every job submitted before is delivered; raises the first exception that no `then` was given, or that one raised."""
        _check(_lib.cohort_shell_drain(self._open))
        failed, self._failed = self._failed, []
        if failed:
            raise failed[0]

    def cancel(self):
        """Jobs not yet started are delivered, in order, with an Error of ECANCELED."""
        _lib.cohort_shell_cancel(self._open)

    def stats(self):
        out = _ShellStats(ctypes.sizeof(_ShellStats))
        _check(_lib.cohort_shell_stats_get(self._open, out))
        return {name: getattr(out, name) for name, _ in out._fields_[1:]}


class PerCpu:
    """A 64-bit number of which each CPU has a copy: add() touches this CPU's alone, sum() adds them up modulo 2^64."""

    def __init__(self):
        out = _u64()
        self._object = 0
        _check(_lib.cohort_percpu_alloc(8, 8, 0, out))
        self._object = out.value

    def add(self, amount=1):
        _lib.cohort_percpu_add_u64(self._object, amount & (2**64 - 1))

    def sum(self):
        return _lib.cohort_percpu_sum_u64(self._object)

    def copies(self):
        """The number of each possible CPU, as it is now."""
        return [ctypes.c_uint64.from_address(_lib.cohort_percpu_ptr(self._object, cpu)).value for cpu in range(possible_cpus())]

    def __del__(self):
        if self._object:
            _lib.cohort_percpu_free(self._object)
            self._object = 0


class Counter(_Handle):
    """The kernel's percpu_counter: exact by sum(), near and cheap by read()."""

    _free = _lib.cohort_counter_free

    def __init__(self, value=0, batch=0):
        out = _p()
        _check(_lib.cohort_counter_alloc(value, batch, out))
        self._handle = out.value

    def add(self, amount=1):
        _lib.cohort_counter_add(self._open, amount)

    def limited_add(self, limit, amount):
        """Adds unless the limit would be passed; whether it did."""
        return _lib.cohort_counter_limited_add(self._open, limit, amount) > 0

    def read(self):
        return _lib.cohort_counter_read(self._open)

    def sum(self):
        return _lib.cohort_counter_sum(self._open)


class _Held:
    def __init__(self, lock, unlock):
        self._lock, self._unlock = lock, unlock

    def __enter__(self):
        self._lock()

    def __exit__(self, *_):
        self._unlock()


class Rwsem(_Handle):
    """A lock whose readers touch only their CPU's memory: `with sem.read():`, `with sem.write():`."""

    _free = _lib.cohort_rwsem_free

    def __init__(self):
        out = _p()
        _check(_lib.cohort_rwsem_alloc(out))
        self._handle = out.value

    def read(self):
        return _Held(lambda: _lib.cohort_rwsem_read_lock(self._open), lambda: _lib.cohort_rwsem_read_unlock(self._open))

    def write(self):
        return _Held(lambda: _lib.cohort_rwsem_write_lock(self._open), lambda: _lib.cohort_rwsem_write_unlock(self._open))


class Cpuset(_Handle):
    """The model of a kernel's cpusets. perform() takes a line of `cohort cpuset simulate` and gives its answer; a refusal is an Error with the kernel's errno."""

    _free = _lib.cohort_cpuset_free

    def __init__(self, machine, kernel="6.12", v1=False):
        out = _p()
        _check(_lib.cohort_cpuset_alloc(machine.encode(), kernel.encode(), v1, out))
        self._handle = out.value

    def perform(self, command):
        # Each call carries the command out, so it is made once; an answer longer than this is cut.
        buffer = ctypes.create_string_buffer(1 << 16)
        _check(_lib.cohort_cpuset_perform(self._open, command.encode(), buffer, len(buffer)))
        return buffer.value.decode()


def core_facility():
    """(usable, why): whether this kernel can keep cookies apart, and the reason where it cannot."""
    buffer = ctypes.create_string_buffer(1024)
    return _lib.cohort_core_facility(buffer, len(buffer)) == 0, buffer.value.decode()
