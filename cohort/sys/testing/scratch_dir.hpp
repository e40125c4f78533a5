// SPDX-License-Identifier: Apache-2.0
/// For tests: a directory of the test's own under TMPDIR, removed with all it holds.
///
///     sys::testing::scratch_dir dir;
///     write_file(os, dir / "in", "text");
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace cohort::sys::testing {

class scratch_dir {
public:
    scratch_dir() {
        std::string pattern = (std::filesystem::temp_directory_path() / "cohort_test.XXXXXX").string();
        if (!::mkdtemp(pattern.data())) std::abort();
        path_ = pattern;
    }
    scratch_dir(const scratch_dir&) = delete;
    scratch_dir& operator=(const scratch_dir&) = delete;
    ~scratch_dir() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

}  // namespace cohort::sys::testing
