# SPDX-License-Identifier: Apache-2.0
"""Tests of the Python module. Usage: COHORT_LIBRARY=libcohort.so.0 python3 test_cohort.py"""
import errno
import gc
import os
import re
import sys
import threading
import unittest
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cohort

HEADER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../cohort/kapi/c/cohort.h")


def header():
    with open(HEADER) as f:
        return re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)


class Ordered(unittest.TestCase):
    def test_results_come_in_the_order_of_submission_when_the_first_finishes_last(self):
        first_may_end, got = threading.Event(), []

        def work(i):
            if i == 0:
                self.assertTrue(first_may_end.wait(60))
            if i == 50:
                first_may_end.set()
            return i * i

        # A worker beside the submitter: the first job waits for one that comes later.
        with cohort.Padata() as pool, cohort.Shell(pool, no_inline=True) as stream:
            if cohort.possible_cpus() < 2 or len(os.sched_getaffinity(0)) < 2:
                first_may_end.set()
            for i in range(100):
                stream.submit(work, i, then=lambda r, e: got.append((r, e)))
            stream.drain()
        self.assertEqual(got, [(i * i, None) for i in range(100)])

    def test_real_blocks_are_packed_and_joined(self):
        blocks, out = [bytes([i]) * 100000 for i in range(64)], []
        with cohort.Padata() as pool, cohort.Shell(pool) as stream:
            for b in blocks:
                stream.submit(zlib.compress, b, then=lambda packed, error: out.append(packed))
            stream.drain()
            self.assertEqual(stream.stats()["delivered"], 64)
        self.assertEqual([zlib.decompress(o) for o in out], blocks)

    def test_exceptions_reach_then_in_order_or_drain(self):
        seen = []
        with cohort.Padata() as pool, cohort.Shell(pool) as stream:
            for i in range(10):
                stream.submit(lambda i=i: 1 // (i % 2), then=lambda r, e: seen.append(type(e)))
            stream.drain()
            self.assertEqual(seen, [ZeroDivisionError, type(None)] * 5)
            stream.submit(int, "no number")
            with self.assertRaises(ValueError):
                stream.drain()
            stream.drain()
            stream.submit(int, "7", then=lambda r, e: {}[r])
            with self.assertRaises(KeyError):
                stream.drain()

    def test_cancelled_jobs_are_delivered_with_ecanceled(self):
        seen = []
        with cohort.Padata(no_threads=True) as pool, cohort.Shell(pool, no_inline=True) as stream:
            for i in range(5):
                stream.submit(lambda: 1, then=lambda r, e: seen.append(e.errno if e else None))
            stream.cancel()
            while pool.poll():
                pass
            stream.drain()
        self.assertEqual(seen, [errno.ECANCELED] * 5)

    def test_multithreaded_jobs_cover_the_range_and_carry_exceptions(self):
        done, undone, lock = [], [], threading.Lock()

        def run(begin, end):
            with lock:
                done.append((begin, end))

        with cohort.Padata() as pool:
            pool.do_multithreaded(run, 1000, start=5, min_chunk=10)
            at = 5
            for begin, end in sorted(done):
                self.assertEqual(begin, at)
                at = end
            self.assertEqual(at, 1005)
            with self.assertRaises(ZeroDivisionError):
                pool.do_multithreaded(lambda b, e: 1 // 0, 10, undo=lambda b, e: undone.append(b))

    def test_masks_are_read_and_set_and_refused_by_a_sentence(self):
        cpu = str(min(os.sched_getaffinity(0)))
        with cohort.Padata(name="masks") as pool:
            pool.set_cpus(parallel=cpu)
            self.assertEqual(pool.parallel_cpus, cpu)
            with self.assertRaises(cohort.Error) as refused:
                pool.set_cpus(serial="x")
            self.assertEqual(refused.exception.errno, errno.EINVAL)
            self.assertIn('cpu list "x"', refused.exception.strerror)
        with self.assertRaises(ValueError):
            pool.poll()


class PerCpu(unittest.TestCase):
    def test_numbers_of_all_threads_add_up(self):
        number, counter, sem = cohort.PerCpu(), cohort.Counter(7), cohort.Rwsem()

        def count():
            for _ in range(1000):
                with sem.read():
                    number.add(2)
                counter.add(1)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        with sem.write():
            self.assertEqual(number.sum(), 8000)
        self.assertEqual(sum(number.copies()), 8000)
        self.assertEqual(counter.sum(), 4007)
        self.assertFalse(counter.limited_add(4007, 1))
        self.assertTrue(counter.limited_add(4008, 1))
        number.add(-1)
        self.assertEqual(number.sum(), 7999)


class Models(unittest.TestCase):
    def test_a_model_of_cpusets_answers_as_the_kernel(self):
        with cohort.Cpuset("synthetic:pack:2 core:2 pu:2") as tree:
            tree.perform("mkdir a")
            tree.perform("write a cpuset.cpus 2-3")
            self.assertIn("2-3", tree.perform("read a cpuset.cpus"))
            with self.assertRaises(cohort.Error) as refused:
                tree.perform("write a cpuset.cpus 99999")
            self.assertIn(refused.exception.errno, (errno.EINVAL, errno.ERANGE, errno.EOVERFLOW))

    def test_the_facility_says_why(self):
        usable, why = cohort.core_facility()
        self.assertTrue(usable or why)


class Binding(unittest.TestCase):
    def test_each_function_has_the_parameters_of_the_header(self):
        text = header()
        declared = {}
        for m in re.finditer(r"COHORT_API [^;(]*?cohort_(\w+)\(((?:[^()]|\([^()]*\))*)\);", text, re.S):
            inner = re.sub(r"\([^()]*\)", "", m[2])
            declared[m[1]] = 0 if inner.strip() == "void" else inner.count(",") + 1
        self.assertGreater(len(declared), 50)
        for name, (_, arguments) in cohort._FUNCTIONS.items():
            self.assertEqual(declared.get(name, "missing"), len(arguments), name)

    def test_structures_are_as_long_as_the_headers(self):
        text = header()
        for name, here in (("padata_options", cohort._PadataOptions), ("shell_options", cohort._ShellOptions), ("shell_stats", cohort._ShellStats), ("mt_job", cohort._MtJob)):
            body = re.search(rf"struct cohort_{name} \{{(.*?)\n\}};", text, re.S)[1]
            members = []
            for line in body.split(";"):
                line = re.sub(r"\(\*(\w+)\)\(.*\)", r" \1", line.strip(), flags=re.S)
                if line:
                    members += [re.search(r"(\w+)$", part.strip())[1] for part in line.split(",")]
            self.assertEqual(members, [f for f, _ in here._fields_], name)

    def test_objects_go_with_their_last_reference(self):
        for _ in range(100):
            cohort.Counter()
        gc.collect()
        self.assertEqual(cohort._jobs, {})
        self.assertRegex(cohort.version(), r"^\d+\.\d+\.\d+$")


class Lines(unittest.TextTestResult):
    """A line for each test, as scripts/check counts them."""

    def addSuccess(self, test):
        super().addSuccess(test)
        print("PASS", test._testMethodName)

    def addError(self, test, err):
        super().addError(test, err)
        print(f"FAIL {test._testMethodName}: {err[1]!r}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        print(f"FAIL {test._testMethodName}: {err[1]}")


if __name__ == "__main__":
    unittest.main(verbosity=0, testRunner=unittest.TextTestRunner(resultclass=Lines, verbosity=0))
