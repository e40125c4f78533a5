// SPDX-License-Identifier: Apache-2.0
/// The files of a control directory: what stands in them, what somebody wrote, what that means.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <cohort/padata/instance.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/watch.hpp>

namespace cohort::padata::detail {

/// The texts of masks as people write them. Errors: EINVAL, ERANGE, EOVERFLOW of the grammars; the object is "parallel mask".
result<cpumask> parse_mask(instance& inst, mask_kind kind, bool hex, std::string_view text);

/// A writer owns a file from its first change (an open that cuts it short is one) until it closes it: meanwhile the file is neither read nor written here, so a
/// request that comes in pieces is read whole. What stands in a file is remembered, so that only differences are written; a file is never seen
/// empty or half by its readers.
/// Synchronization: one thread.
class control_files {
public:
    control_files(sys::os& os, instance& inst, std::string directory);

    /// Writes all files. Errors: those of open and write.
    result<void> create();
    static bool is_name(std::string_view name);

    /// `counted`: news come from a watch, and our own writes come back as events.
    void watch_writes(bool counted) { counted_ = counted; }
    void take(const sys::dir_event& e);
    /// By looking: a file that has changed, and not since the last look, is taken.
    void look();
    /// Reads what was written, applies it, and writes what follows. `collect` takes the events that came meanwhile. True: there is more to do at once.
    template <class Collect>
    bool settle(Collect collect) {
        bool more = false;
        for (file& f : files_) {
            if (!f.changed || f.writing) continue;
            f.changed = false;
            const result<std::string> text = read(f);
            collect();
            if (f.writing) continue;  // the end of that write is another event
            if (f.changed) more = true;
            else apply(f, text);
        }
        return more;
    }
    /// Brings the files up to what the instance says now. `missing`: also those that were removed.
    void refresh(bool missing = false);
    /// Empties last_error, or says in it why.
    void say(const result<void>& done);

private:
    struct kind_of_file {
        const char* name;
        enum { hex, list, state, error } form;
        mask_kind which = mask_kind::parallel;
        bool usable = false;
        bool writable() const { return form <= list && !usable; }
    };
    struct signature {
        std::uint64_t inode = 0, size = 0, changed_ns = 0;
        bool operator==(const signature&) const = default;
    };
    struct file {
        const kind_of_file* kind;
        std::string stands;            // in the file, as far as is known
        bool changed = false;          // somebody closed it after writing
        bool writing = false;          // somebody is at it
        bool gone = false;             // it was removed, and perhaps another put in its place
        int own = 0;                   // closes of ours that were not told yet
        signature known, seen;         // look(): as we left it; at the last look
    };
    static const std::vector<kind_of_file> kinds;

    std::string path(const file& f) const { return directory_ + "/" + f.kind->name; }
    std::string wanted(const file& f) const;
    result<std::string> read(const file& f);
    result<void> write(file& f, const std::string& text);
    result<void> write_in_place(file& f, const std::string& text);
    result<void> replace(file& f, const std::string& text);
    result<void> apply_mask(const file& f, std::string_view text);
    void apply(file& f, const result<std::string>& text);
    signature sign(const file& f);

    sys::os& os_;                  // [const after init]
    instance& inst_;               // [const after init]
    const std::string directory_;  // [const after init]
    bool counted_ = false;
    std::vector<file> files_;
    std::string error_;            // what last_error says
};

}  // namespace cohort::padata::detail
