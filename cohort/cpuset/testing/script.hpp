// SPDX-License-Identifier: Apache-2.0
/// Tests speak to a model in the lines of the simulator.
///
///     script m;                                  // 2 packages, 2 cores each, 2 threads each; kernel 6.12
///     m.run("mkdir a");                          // must be answered with ok
///     m.says("read a cpuset.cpus.effective");    // "0-7", or "EINVAL"
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include <cohort/cpuset/model.hpp>

namespace cohort::cpuset::testing {

inline machine::topology synthetic(const std::string& description) {
    auto t = machine::load("synthetic:" + description, sys::real());
    EXPECT_TRUE(t.has_value()) << description;
    return *t;
}

inline const machine::topology& eight_cpus() {
    static const machine::topology t = synthetic("pack:2 numa:1 core:2 pu:2");
    return t;
}

class script {
public:
    explicit script(model_options o = {}, const machine::topology& t = eight_cpus()) : model_(t, o) {}

    answer perform(const std::string& line) {
        const auto op = parse_operation(line);
        EXPECT_TRUE(op.has_value()) << line << ": " << (op ? "" : op.error().why);
        if (!op) return {.code = EINVAL, .why = "grammar"};
        answer a = model_.perform(*op);
        EXPECT_EQ(model_.broken(), "") << "after: " << line;
        return a;
    }
    /// Several lines, each to be answered with ok.
    void run(std::string_view lines) {
        while (!lines.empty()) {
            const std::size_t end = std::min(lines.find('\n'), lines.size());
            const std::string line(lines.substr(0, end));
            lines.remove_prefix(std::min(lines.size(), end + 1));
            const answer a = perform(line);
            EXPECT_TRUE(a.ok()) << line << ": " << errno_name(a.code) << ": " << a.why;
        }
    }
    /// The value, the list joined by blanks, or the name of the errno.
    std::string says(const std::string& line) {
        const answer a = perform(line);
        if (!a.ok()) return errno_name(a.code);
        if (a.list.empty()) return a.value;
        std::string out;
        for (const std::string& item : a.list) out += (out.empty() ? "" : " ") + item;
        return out;
    }
    std::string cpus(const std::string& path) { return says("read " + path + " cpuset.cpus.effective"); }
    std::string partition(const std::string& path) { return says("read " + path + " cpuset.cpus.partition"); }

private:
    model model_;
};

}  // namespace cohort::cpuset::testing
