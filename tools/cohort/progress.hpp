// SPDX-License-Identifier: Apache-2.0
/// Progress of jobs on stderr: one line a job, redrawn in place, on a terminal; a plain line at each change of state elsewhere.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <cohort/group/run.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::cli {

class progress {
public:
    progress(sys::os& os, int fd);
    void show(const std::vector<group::job_report>& jobs);
    /// Takes the lines off the terminal again.
    void clear();
    bool on_terminal() const { return terminal_; }

private:
    void draw(const std::vector<group::job_report>& jobs);
    void tell(const std::vector<group::job_report>& jobs);
    void write(const std::string& text);

    sys::os& os_;
    int fd_;
    bool terminal_;
    int drawn_ = 0;                                  // lines on the terminal
    std::map<std::string, group::job_state> told_;  // by job
    std::map<std::string, std::uint64_t> since_;    // when a job was first seen running, ns
};

}  // namespace cohort::cli
