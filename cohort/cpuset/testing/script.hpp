// SPDX-License-Identifier: Apache-2.0
/// Tests speak to a model in the lines of the simulator, and say beside each what it must answer.
///
///     script m;                                  // 2 packages, 2 cores each, 2 threads each; kernel 6.12
///     m.run(R"(
///         mkdir a; write a cpuset.cpus 2-3       # without an arrow: it must be answered with ok
///         read a cpuset.cpus -> 2-3
///         cpus a -> 2-3                          # cpuset.cpus.effective; `partition a`: cpuset.cpus.partition
///         mems t -> 0-1                          # of a task; also `path t`, `policy t`, `vma_policy t`
///         attach nowhere t -> ENOENT
///         write a cpuset.cpus; read a cpuset.cpus -> ""
///         partition a -> root invalid...         # begins with
///     )");
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

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
    /// Several operations, apart by line ends or `;`, with what each must answer.
    void run(std::string_view lines, std::source_location from = std::source_location::current()) {
        const ::testing::ScopedTrace trace(from.file_name(), static_cast<int>(from.line()), "the script of this line");
        while (!lines.empty()) {
            const std::size_t end = std::min(lines.find('\n'), lines.size());
            std::string_view line = lines.substr(0, end);
            lines.remove_prefix(std::min(lines.size(), end + 1));
            line = line.substr(0, line.find('#'));
            while (!line.empty()) {
                const std::size_t semicolon = std::min(line.find(';'), line.size());
                if (const std::string_view one = trimmed(line.substr(0, semicolon)); !one.empty()) expect(one);
                line.remove_prefix(std::min(line.size(), semicolon + 1));
            }
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
    /// For what looks at a model as a whole.
    model& subject() { return model_; }

private:
    static std::string_view trimmed(std::string_view text) {
        const std::size_t first = text.find_first_not_of(" \t");
        return first == std::string_view::npos ? std::string_view() : text.substr(first, text.find_last_not_of(" \t") + 1 - first);
    }
    void expect(std::string_view line) {
        const std::size_t arrow = line.find("->");
        const std::string question(trimmed(line.substr(0, arrow)));
        if (arrow == std::string_view::npos) {
            const answer a = perform(question);
            EXPECT_TRUE(a.ok()) << line << ": " << errno_name(a.code) << ": " << a.why;
            return;
        }
        std::string_view wanted = trimmed(line.substr(arrow + 2));
        std::string said = asked(question);
        if (wanted == "\"\"") wanted = "";
        if (wanted.ends_with("...")) {
            wanted.remove_suffix(3);
            said.resize(std::min(said.size(), wanted.size()));
        }
        EXPECT_EQ(said, wanted) << line;
    }
    /// says(), and the short questions.
    std::string asked(const std::string& question) {
        const std::size_t blank = std::min(question.find(' '), question.size() - 1);
        const std::string word = question.substr(0, blank), of = question.substr(blank + 1);
        if (word == "cpus") return says("read " + of + " cpuset.cpus.effective");
        if (word == "partition") return says("read " + of + " cpuset.cpus.partition");
        for (const auto& [field, value] : {std::pair{"mems", &answer::mems}, {"path", &answer::path}, {"policy", &answer::policy}, {"vma_policy", &answer::vma_policy}}) {
            if (word != field) continue;
            const answer a = perform("task " + of);
            return a.ok() ? a.*value : errno_name(a.code);
        }
        return says(question);
    }

    model model_;
};

}  // namespace cohort::cpuset::testing
