// SPDX-License-Identifier: Apache-2.0
// What the parts of up_guest share: claims, commands of `cohort` run and looked at, the words of a spec.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace up_guest {

/// Prints "ok NAME" or "FAILED NAME: ...". `wanted` that ends with "..." is a beginning.
void claim(const std::string& name, const std::string& got, const std::string& wanted);
void claim(const std::string& name, bool holds, const std::string& got);
int failures();

std::string contents(const std::string& path);
bool put(const std::string& path, const std::string& text);
/// What stands behind `key` in a text of lines; "?": no line begins so.
std::string value_of(const std::string& text, const std::string& key);
/// The word behind `key` and a blank; "?": there is none.
std::string word_after(const std::string& text, const std::string& key);
bool is_there(const std::string& path);
double seconds_now();
void pause_for(double seconds);
/// Asked again and again, for two minutes at most.
bool comes_true(const std::function<bool()>& so);

/// Of a process; 0: this one. "0": it has none.
std::string cookie_of(pid_t pid = 0);
bool is_cookie(const std::string& text);

struct outcome {
    int code = -1;  ///< 1000 and more: by a signal
    std::string out, err;
    nlohmann::json report;  ///< an object, empty where `out` is none

    std::string text(const std::string& cohort, const char* what, const char* key) const;
    std::string said() const { return std::to_string(code) + " " + err; }
};

/// The program with these words, its output in files of its own; `finish` waits for it.
pid_t begin(const std::vector<std::string>& words, const char* program = "/bin/cohort");
outcome finish(pid_t pid);
outcome command(const std::vector<std::string>& words);
/// `cohort up` of a spec, as /tmp/spec.toml.
std::string write_spec(const std::string& spec);
outcome up(const std::string& spec);

/// Of a spec. Jobs are this program; what they print is told(NAME).
std::string cohort(const std::string& name, const std::string& cpus, const std::string& more = "");
std::string job(const std::string& of, const std::string& name, const std::string& words = "\"tell\"");
std::string told(const std::string& name);
inline const std::string require_cookie = "coresched = \"require\"\n";
inline const std::string require_set = "cpuset = \"require\"\n";

/// What is there that should not be, after the last up has ended: sets, jobs, cookies, files of what is up. "nothing" when all is gone.
std::string left();

/// The parts; each makes claims.
void inside();
void lives(int rounds);
void daemon();

}  // namespace up_guest
