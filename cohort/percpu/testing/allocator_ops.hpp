// SPDX-License-Identifier: Apache-2.0
/// An allocator beside a plain reference; perform(op) does one thing to both and compares all of it. Random tests and the fuzz target drive it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <cohort/account/charged.hpp>
#include <cohort/percpu/detail/chunk.hpp>
#include <cohort/percpu/stats.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu::testing {

struct allocator_op {
    enum kind_t : std::uint8_t {
        alloc, alloc_small, alloc_atomic, alloc_reserved, alloc_accounted, alloc_populated, free_live, free_dead, free_interior, free_foreign,
        write_copy, count_here, balance, trim, limit, move, kinds
    };
    kind_t kind = alloc;
    std::uint32_t size = 8, align = 8;  // as the caller may ask, legal or not
    std::uint32_t which = 0;            // of the live or dead objects, modulo their number; the CPU; the limit
};

/// From six bytes of a fuzzer or of a random generator.
inline allocator_op decode(const std::uint8_t* b) {
    allocator_op op;
    op.kind = static_cast<allocator_op::kind_t>(b[0] % allocator_op::kinds);
    const std::uint32_t n = b[1] | static_cast<std::uint32_t>(b[2]) << 8;
    op.size = op.kind == allocator_op::alloc_small ? n % 257 : b[2] % 4 == 0 ? n % 33000 : n % 2100;
    op.align = b[3] % 32 == 31 ? b[3] * 3u : b[3] % 4 == 0 ? 1u << (b[3] / 4 % 14) : 1u << (b[3] % 7);
    op.which = b[4] | static_cast<std::uint32_t>(b[5]) << 8;
    return op;
}

/// One thread drives it; `most` bounds the live objects.
class allocator_model {
public:
    explicit allocator_model(allocator_options options, std::size_t most = 64)
        : subject(allocator::create(options).value()), most_(most), options_(std::move(options)), before_(sys::thread_affinity().value()),
          table_(4), payer_(table_->create(table_->root(), "payer", account::unlimited).value()) {}
    ~allocator_model() {
        for (const auto& [value, o] : live_) (void)subject->free(value);
        (void)sys::pin_thread(before_);
    }

    /// Empty when allocator and reference agree, else what differs.
    std::string perform(const allocator_op& op) {
        switch (op.kind) {
            case allocator_op::free_live: return live_.empty() ? "" : free_nth(op.which);
            case allocator_op::free_dead: return dead_.empty() ? "" : refused(dead_[op.which % dead_.size()], "a dead object");
            case allocator_op::free_interior: return live_.empty() ? "" : free_interior(op);
            case allocator_op::free_foreign: return free_foreign(op);
            case allocator_op::write_copy: return write_copy(op);
            case allocator_op::count_here: return count_here(op);
            case allocator_op::balance: subject->balance(); return compare();
            case allocator_op::trim: subject->trim(); return compare();
            case allocator_op::limit: return change_limit(op);
            case allocator_op::move: return move(op);
            default: return allocate(op);
        }
    }
    /// Every byte of every copy, every size, the figures and the charges.
    std::string compare() const {
        std::ostringstream broken;
        std::uint64_t bytes = 0;
        for (const auto& [value, o] : live_) {
            bytes += o.room;
            if (subject->size_of(value) != o.room) broken << "size_of " << subject->size_of(value) << ", not " << o.room << "; ";
            compare_copies(broken, value, o);
        }
        const allocator_stats s = subject->stats();
        const auto equal = [&](const char* what, auto got, auto expected) {
            if (got != expected) broken << what << " is " << got << ", not " << expected << "; ";
        };
        equal("nr_cur_alloc", s.nr_cur_alloc, static_cast<std::int64_t>(live_.size()));
        equal("nr_alloc", s.nr_alloc, nr_alloc_);
        equal("nr_dealloc", s.nr_dealloc, nr_dealloc_);
        equal("failures", s.failures, failures_);
        equal("live_bytes", s.live_bytes, bytes);
        equal("charges", payer_.stats()->usage, usage_);
        if (s.cached < 0) broken << "cached is " << s.cached << "; ";
        return broken.str();
    }
    std::size_t live() const { return live_.size(); }

    const std::unique_ptr<allocator> subject;

private:
    struct object {
        std::size_t room = 0;                        // bytes, as rounded
        std::uint64_t charged = 0;
        bool reserved = false;
        std::map<unsigned, std::vector<std::uint8_t>> copies;  // those that were written to; the others are zero
    };
    using live_map = std::map<std::uintptr_t, object>;

    static std::uint8_t* copy_of(std::uintptr_t value, unsigned cpu) {
        return reinterpret_cast<std::uint8_t*>(value + detail::offset_of(detail::layout_of(value), cpu));
    }
    live_map::iterator nth(std::uint32_t n) { return std::next(live_.begin(), static_cast<std::ptrdiff_t>(n % live_.size())); }

    // Copies of absent CPUs are read as they are: nothing becomes present for being compared.
    static void compare_copies(std::ostringstream& broken, std::uintptr_t value, const object& o) {
        static const std::vector<std::uint8_t> zeroes(unit_limit + 4096);
        for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
            const auto it = o.copies.find(cpu);
            const std::uint8_t* expected = it == o.copies.end() ? zeroes.data() : it->second.data();
            if (std::memcmp(copy_of(value, cpu), expected, o.room) != 0) broken << "an object of " << o.room << " bytes has changed on CPU " << cpu << "; ";
        }
    }

    std::size_t rounded(std::size_t size, std::size_t align, bool direct) const {
        const int cls = detail::class_for(size, align);
        return direct || cls < 0 ? (size + 3) / 4 * 4 : detail::class_bytes[static_cast<std::size_t>(cls)];
    }

    std::string allocate(const allocator_op& op) {
        const bool atomic = op.kind == allocator_op::alloc_atomic, reserved = op.kind == allocator_op::alloc_reserved;
        const bool accounted = op.kind == allocator_op::alloc_accounted, populated = op.kind == allocator_op::alloc_populated;
        if (live_.size() >= most_) return free_nth(op.which);
        alloc_flags flags = alloc_flags::nowarn;
        if (accounted) flags = flags | alloc_flags::account;
        if (populated) flags = flags | alloc_flags::populate_now;
        const bool legal = op.size >= 1 && op.size <= unit_limit && std::has_single_bit(op.align) && op.align <= (reserved ? 64 : 4096);
        const std::size_t room = legal ? rounded(op.size, op.align, accounted || populated || reserved || !options_.magazines) : 0;
        const std::uint64_t charge = accounted ? std::uint64_t{room} * possible_cpus() + sizeof(detail::payer) : 0;

        std::uintptr_t value = 0;
        int code = 0;
        {
            const account::scope paying(payer_);
            if (atomic) {
                const attempt got = subject->alloc_atomic(op.size, op.align, flags);
                value = got.value;
                code = errno_of(got.why);
                if (got.why == refusal::busy) return "busy, and no handler runs";
            } else {
                const auto got = reserved ? subject->alloc_reserved(op.size, op.align, flags) : subject->alloc(op.size, op.align, flags);
                value = got.value_or(0);
                if (!got) code = got.error().code;
            }
        }
        int expected = !legal ? EINVAL : accounted && usage_ + charge > limit_ ? ENOMEM : reserved && !reserved_fits(room, op.align) ? ENOMEM : 0;
        if (atomic && legal && code == ENOMEM) expected = ENOMEM;  // what is populated is the allocator's affair
        if (code != expected || (value != 0) != (code == 0)) {
            std::ostringstream broken;
            broken << "allocation of " << op.size << " aligned to " << op.align << ", kind " << int{op.kind} << ": " << code << ", not " << expected;
            return broken.str();
        }
        if (value == 0) {
            ++failures_;
            return compare();
        }
        ++nr_alloc_;
        usage_ += charge;
        std::ostringstream broken;
        const auto after = live_.lower_bound(value);
        if (after != live_.end() && value + room > after->first) broken << "overlaps the next object; ";
        if (after != live_.begin() && std::prev(after)->first + std::prev(after)->second.room > value) broken << "overlaps the object before; ";
        for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
            if (reinterpret_cast<std::uintptr_t>(copy_of(value, cpu)) % op.align != 0) broken << "not aligned to " << op.align << " on CPU " << cpu << "; ";
        }
        if (reserved) reserved_at_ = value - detail::offset_in_unit(value);
        live_[value] = {.room = room, .charged = charge, .reserved = reserved, .copies = {}};
        std::erase(dead_, value);
        return broken.str() + compare();
    }

    /// By a plain scan of the reserved bytes of the first chunk of this layout.
    bool reserved_fits(std::size_t room, std::size_t align) const {
        const std::uintptr_t start = reserved_at_;
        align = std::max<std::size_t>(align, 4);
        for (std::size_t at = 0; at + room <= options_.reserved_bytes; at += align) {
            bool taken = false;
            for (const auto& [value, o] : live_) {
                if (o.reserved && start && value >= start && value - start < detail::unit_bytes) taken |= value - start < at + room && value - start + o.room > at;
            }
            if (!taken) return true;
        }
        return false;
    }

    std::string free_nth(std::uint32_t n) {
        const auto it = nth(n);
        const std::uintptr_t value = it->first;
        if (const int code = subject->free(value); code != 0) return "free of a live object answers " + std::to_string(code);
        ++nr_dealloc_;
        usage_ -= it->second.charged;
        live_.erase(it);
        dead_.push_back(value);
        if (dead_.size() > 64) dead_.erase(dead_.begin());
        return compare();
    }
    std::string refused(std::uintptr_t value, const char* what) {
        if (const int code = subject->free(value); code != EINVAL) return std::string("free of ") + what + " answers " + std::to_string(code);
        if (subject->size_of(value) != 0) return std::string(what) + " has a size";
        return compare();
    }
    std::string free_interior(const allocator_op& op) {
        const auto it = nth(op.which);
        if (it->second.room <= 4) return refused(it->first + 1 + op.size % 3, "an odd address");
        return refused(it->first + 4 + op.size % (it->second.room - 4), "an interior address");
    }
    std::string free_foreign(const allocator_op& op) {
        int local = 0;
        const std::uintptr_t base = live_.empty() ? 0x10000 : nth(op.which)->first;
        switch (op.size % 4) {
            case 0: return refused(reinterpret_cast<std::uintptr_t>(&local), "an address of the stack");
            case 1: return refused(~std::uintptr_t{0} - op.which, "an address at the end of memory");
            case 2: return refused(base + detail::units_at + 4 * op.which, "an address of a unit");
            default: return refused(detail::chunk_start(base) + op.which * 4u % detail::coloured_handles_at, "an address of the metadata");
        }
    }
    std::string write_copy(const allocator_op& op) {
        if (live_.empty()) return "";
        const auto it = nth(op.which);
        const unsigned cpu = op.size % possible_cpus();
        object& o = it->second;
        auto& copy = o.copies.try_emplace(cpu, o.room).first->second;
        for (std::size_t i = op.align % o.room; i < o.room; i += 1 + op.size % 7) copy[i] = static_cast<std::uint8_t>(op.size + i);
        detail::make_present(subject->index(), cpu);
        std::memcpy(copy_of(it->first, cpu), copy.data(), o.room);
        return compare();
    }
    /// An operation on this CPU's copy; the thread stays on its CPU.
    std::string count_here(const allocator_op& op) {
        if (live_.empty()) return "";
        const auto it = nth(op.which);
        object& o = it->second;
        if (subject->index() != by::cpu || !pinned_) return "";
        const auto cpu = static_cast<unsigned>(sys::current_cpu());
        auto& copy = o.copies.try_emplace(cpu, o.room).first->second;
        std::uint32_t word;
        std::memcpy(&word, copy.data(), 4);
        word += op.size;
        std::memcpy(copy.data(), &word, 4);
        if (detail::layout_of(it->first) == detail::layout::flat) this_cpu::add(handle<std::uint32_t, by::cpu, detail::layout::flat>(it->first), op.size);
        else this_cpu::add(handle<std::uint32_t>(it->first), op.size);
        return compare();
    }
    std::string change_limit(const allocator_op& op) {
        const std::uint64_t limit = op.size % 4 == 0 ? account::unlimited : std::uint64_t{op.which} * 16;
        const bool set = payer_.set_limit(limit).has_value();
        if (set != (limit >= usage_)) return "the limit of a group";
        if (set) limit_ = limit;
        return compare();
    }
    std::string move(const allocator_op& op) {
        int cpu = before_.first();
        for (std::uint32_t n = op.which % static_cast<std::uint32_t>(before_.weight()); n > 0; --n) cpu = before_.next(cpu + 1);
        pinned_ = sys::pin_thread(cpumask{cpu}).has_value();
        return "";
    }

    const std::size_t most_;
    const allocator_options options_;
    const cpumask before_;
    account::local_table table_;
    account::group payer_;
    std::uint64_t limit_ = account::unlimited, usage_ = 0, failures_ = 0;
    std::int64_t nr_alloc_ = 0, nr_dealloc_ = 0;
    std::uintptr_t reserved_at_ = 0;      // where the handles of the reserved part begin, once known
    bool pinned_ = false;
    live_map live_;
    std::vector<std::uintptr_t> dead_;
};

}  // namespace cohort::percpu::testing
