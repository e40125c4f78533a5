// SPDX-License-Identifier: Apache-2.0
/// The operations on a model, as values, and the grammar that writes them one a line.
///
///     auto op = parse_operation("write a/b cpuset.cpus 0-3");     // result<operation>; the error's reason names the column
///     op->what == verb::write && op->path == "a/b" && op->file == "cpuset.cpus" && op->text == "0-3";
///     to_line(*op);                                               // the line again
///
///     mkdir P | rmdir P | write P FILE VALUE... | read P FILE | attach P TASK | fork TASK CHILD | exit TASK | affinity TASK LIST
///     mempolicy TASK MODE[+FLAGS] NODES | mbind TASK MODE NODES | controller P +cpuset|-cpuset | cpu N online|offline | node N online|offline
///     suspend | resume | bind v1|v2 | pressure TASK EVENTS | advance SECONDS | as root | as delegate P | domains | tasks P | task TASK
///
/// P is a path from the root ("a/b"), "." the root. VALUE may be empty. MODE: default, preferred, bind, interleave, local, preferred-many,
/// weighted-interleave; FLAGS: static, relative, joined by +. NODES may be left out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/cpuset/policy.hpp>

namespace cohort::cpuset {

enum class verb {
    mkdir, rmdir, write, read, attach, fork, exit, affinity, mempolicy, mbind, controller, cpu, node, suspend, resume, bind, pressure, advance,
    as_root, as_delegate, domains, tasks, task
};

/// Only the fields that the verb needs mean something.
struct operation {
    verb what = verb::domains;
    std::string path = {};       ///< "" is the root
    std::string file = {};
    std::string text = {};       ///< the value of a write
    std::string task = {}, child = {};
    cpumask cpus = {};           ///< affinity
    memory_policy policy = {};       ///< mempolicy, mbind
    std::int64_t number = 0;     ///< a CPU, a node, events, seconds
    bool on = false;             ///< online; +cpuset; bind v2
    bool operator==(const operation&) const = default;
};

/// Where a line leaves the grammar. `column` counts characters from 1.
struct grammar_fault {
    std::size_t column = 1;
    std::string why;
};

/// line: without its end.
std::expected<operation, grammar_fault> parse_operation(std::string_view line);
/// The line of an operation; parsing it gives the operation again.
std::string to_line(const operation& op);

}  // namespace cohort::cpuset
