// SPDX-License-Identifier: Apache-2.0
// The three programs of a flow. Whoever loses a neighbour ends with an error: a flow whose processes do not all come to their end has no output.
#include <charconv>
#include <cstdio>
#include <cstdlib>

#include <cohort/sharepool/share_pool.hpp>
#include <cohort/stream/detail/flow_shared.hpp>
#include <cohort/stream/detail/modes.hpp>
#include <cohort/sys/modules.hpp>
#include <cohort/sys/signals.hpp>

namespace cohort::stream {

namespace detail {

std::uint8_t* record_memory::take(std::size_t bytes) {
    while (void* back = spent_ ? spent_->try_pop() : nullptr) {
        auto* r = static_cast<flow_record*>(back);
        if (r->capacity >= bytes) return r->bytes();
        m_.free(r);
    }
    const std::size_t capacity = std::max(bytes, least_);
    void* p = m_.alloc(sizeof(flow_record) + capacity);
    return p ? (new (p) flow_record{.size = 0, .capacity = capacity, .part = false})->bytes() : nullptr;
}

}  // namespace detail

namespace {

using sharepool::channel_reader;
using sharepool::channel_writer;
using sharepool::member;
using detail::record_memory;

/// What the words say.
struct assignment {
    flow_role role = flow_role::producer;
    pipe_options run;
    std::string plugin;
    int group = 0;
    flow_shared* shared = nullptr;
};

bool read_number(std::string_view text, auto& to) {
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), to);
    return problem == std::errc() && end == text.data() + text.size();
}

result<assignment> read_words(std::span<const std::string> words) {
    const auto bad = [](const std::string& word) { return fail(EINVAL, "flow stage", "read word \"" + word + "\"", "it is none of a stage's; `cohort up` starts these processes"); };
    assignment a;
    if (words.empty()) return bad("");
    const auto role = std::find_if(flow_roles.begin(), flow_roles.end(), [&](flow_role r) { return words[0] == role_name(r); });
    if (role == flow_roles.end()) return bad(words[0]);
    a.role = *role;
    for (std::size_t i = 1; i < words.size(); ++i) {
        const std::string& w = words[i];
        if (w == "command") {
            a.run.argv.assign(words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
            break;
        }
        const std::string_view key = std::string_view(w).substr(0, w.find('=')), value = std::string_view(w).substr(std::min(w.size(), key.size() + 1));
        std::uintptr_t at = 0;
        int level = 0;
        bool good = true;
        if (key == "name") a.run.name = value;
        else if (key == "plugin") a.plugin = value;
        else if (key == "separator") a.run.records = true, a.run.separator = value;
        else if (key == "workers") good = read_number(value, a.run.workers);
        else if (key == "level") good = read_number(value, level), a.run.level = level;
        else if (key == "at") good = read_number(value, at) && at % 16 == 0, a.shared = reinterpret_cast<flow_shared*>(at);
        else if (key == "group") good = read_number(value, a.group);
        else if (key == "codec") {
            const auto kind = parse_codec(value);
            if (!kind) return std::unexpected(kind.error());
            a.run.kind = *kind;
        } else {
            good = false;
        }
        if (!good) return bad(w);
    }
    return a;
}

/// Ends by another's end are told apart: who reports names the first.
bool of_another(const error& e) { return e.code == EOWNERDEAD || (e.code == EPIPE && e.object.starts_with("channel")); }

/// One stage, from joining the pool to the last record.
class stage {
public:
    stage(const assignment& a, member& m, sys::os& system) : a_(a), m_(m), os_(system), s_(*a.shared), facts_(s_.stages[static_cast<int>(a.role)]) {}

    result<void> run() {
        facts_.pid = os_.getpid();
        result<void> r;
        try {
            r = a_.role == flow_role::producer ? produce() : a_.role == flow_role::workers ? work() : consume();
        } catch (const std::bad_alloc&) {
            r = fail(ENOMEM, "pool", "hold a block", "it is full; a larger pool or smaller blocks will do");
        }
        if (!r) facts_.fail(r.error(), of_another(r.error()));
        return r;
    }

private:
    result<void> produce();
    result<void> work();
    result<void> consume();
    result<void> open(sharepool::channel* from, sharepool::channel* to);

    const assignment& a_;
    member& m_;
    sys::os& os_;
    flow_shared& s_;
    stage_facts& facts_;
    // Both ends live as long as the stage: who fails closes none, and its neighbours are told of a death, not of the end of the stream.
    std::optional<channel_writer> to_;
    std::optional<channel_reader> from_;
};

result<void> stage::open(sharepool::channel* from, sharepool::channel* to) {
    auto w = channel_writer::open(m_, to);
    if (!w) return std::unexpected(w.error());
    to_.emplace(std::move(*w));
    auto r = channel_reader::open(m_, from);
    if (!r) return std::unexpected(r.error());
    from_.emplace(std::move(*r));
    return {};
}

result<void> stage::produce() {
    if (auto opened = open(s_.spent, s_.blocks); !opened) return opened;
    pipe_options o = a_.run;
    o.input_fd = 0;
    auto in = detail::source::open(o, os_);
    if (!in) return std::unexpected(in.error());
    record_memory memory(m_, s_.record_bytes, &*from_);
    buffer_pool buffers(s_.window_bytes, {}, &memory);
    const detail::reading reads{*in, -1, buffers, s_.window_bytes};
    const auto feed = o.kind ? detail::cut_blocks(reads, s_.block_bytes) : detail::cut_records(reads, s_.block_bytes, o.records, o.separator);
    for (;;) {
        auto next = feed->next();
        if (!next) return std::unexpected(next.error());
        if (next->end) break;
        const std::uint64_t size = next->bytes.size();
        buffers.goes(next->bytes.capacity());
        flow_record* r = flow_record::of(next->bytes.let_go());
        r->size = size, r->part = next->part;
        if (auto pushed = to_->push(r); !pushed) {
            m_.free(r);
            return pushed;
        }
        facts_.bytes += size, ++facts_.records;
    }
    to_->close();
    return {};
}

/// Blocks as they come from the producer.
class record_feed final : public detail::block_feed {
public:
    record_feed(channel_reader& from, record_memory& memory, stage_facts& facts) : from_(from), memory_(memory), facts_(facts) {}
    result<block> next() override {
        auto p = from_.pop();
        if (!p && p.error().code == ENODATA) return block{.bytes = {}, .part = false, .end = true};
        if (!p) return std::unexpected(p.error());
        auto* r = static_cast<flow_record*>(*p);
        facts_.bytes += r->size, ++facts_.records;
        return block{.bytes = buffer(memory_, r->bytes(), r->size, r->capacity), .part = r->part, .end = false};
    }

private:
    channel_reader& from_;
    record_memory& memory_;
    stage_facts& facts_;
};

/// Records on to the consumer.
class record_outlet final : public detail::outlet {
public:
    record_outlet(channel_writer& to, record_memory& memory, flow_shared& s) : to_(to), memory_(memory), s_(s) {}
    const std::string& name() const override { return name_; }
    std::uint64_t written() const override { return written_; }

    /// Of an output that outgrew its record: a piece of it. Copied once, here.
    result<void> write(byte_view bytes, int) override {
        while (!bytes.empty()) {
            const byte_view piece = bytes.first(std::min<std::size_t>(bytes.size(), s_.record_bytes));
            std::uint8_t* at = memory_.take(piece.size());
            if (!at) return fail(ENOMEM, "pool", "hold output", "it is full; a larger pool or smaller blocks will do");
            std::memcpy(at, piece.data(), piece.size());
            if (auto r = push(flow_record::of(at), piece.size()); !r) return r;
            bytes = bytes.subspan(piece.size());
        }
        return {};
    }
    result<void> write_and_give(buffer bytes, buffer_pool& pool, int) override {
        ++s_.done_blocks;
        if (bytes.size() == 0) {
            pool.give(std::move(bytes));
            return {};
        }
        const std::size_t size = bytes.size();
        pool.goes(bytes.capacity());
        return push(flow_record::of(bytes.let_go()), size);
    }
    result<void> commit() override {
        to_.close();
        return {};
    }

private:
    result<void> push(flow_record* r, std::size_t size) {
        r->size = size;
        if (auto pushed = to_.push(r); !pushed) {
            memory_.pool().free(r);
            return pushed;
        }
        written_ += size;
        return {};
    }

    channel_writer& to_;
    record_memory& memory_;
    flow_shared& s_;
    std::uint64_t written_ = 0;
    const std::string name_ = "consumer";
};

result<void> stage::work() {
    if (auto opened = open(s_.blocks, s_.results); !opened) return opened;
    record_memory memory(m_, s_.record_bytes);
    record_feed feed(*from_, memory, facts_);
    pipe_options o = a_.run;
    o.records = false;  // the producer has cut
    o.block_bytes = s_.block_bytes;
    o.memory = s_.window_bytes;
    detail::far_ends far{feed, std::make_unique<record_outlet>(*to_, memory, s_), memory, "the producer"};
    sys::loaded_library library;
    if (!a_.plugin.empty()) {
        auto opened = sys::loaded_library::open(a_.plugin);
        if (!opened) return std::unexpected(opened.error());
        library = std::move(*opened);
        auto function = library.find("cohort_flow");
        if (!function) return std::unexpected(function.error());
        far.function = reinterpret_cast<cohort_flow_function>(*function);
    }
    const auto done = far.function ? detail::run_function(o, os_, far) : o.kind ? detail::run_compress(o, os_, &far) : detail::run_command(o, os_, &far);
    if (!done) return std::unexpected(done.error());
    return {};
}

result<void> stage::consume() {
    if (auto opened = open(s_.results, s_.spent); !opened) return opened;
    pipe_options o;
    o.output_fd = 1;
    auto out = detail::sink::open(o, os_);
    if (!out) return std::unexpected(out.error());
    for (;;) {
        auto p = from_->pop();
        if (!p && p.error().code == ENODATA) return out->commit();
        if (!p) return std::unexpected(p.error());
        auto* r = static_cast<flow_record*>(*p);
        if (auto written = out->write({r->bytes(), r->size}, -1); !written) return written;
        facts_.bytes += r->size, ++facts_.records;
        if (!to_->try_push(r)) m_.free(r);
    }
}

}  // namespace

int flow_stage(std::span<const std::string> words, sys::os& system) {
    const auto complain = [](const error& e) { std::fprintf(stderr, "cohort: %s\n", e.line().c_str()); };
    const auto a = read_words(words);
    if (!a) return complain(a.error()), 2;
    // A reader that goes away is an error of the write; everything else ends this process as it stands: the others put the pool in order.
    const auto pipes = sys::signal_catcher::create({});
    if (!pipes) return complain(pipes.error()), 5;
    sharepool::share_pool* const pool = sharepool::share_pool::current();
    member* const m = pool ? pool->in(a->group) : nullptr;
    if (!m) return complain({ENODEV, "flow stage", "begin", "it is not in group " + std::to_string(a->group)}), 5;
    if (!m->usable_size(a->shared) || *m->usable_size(a->shared) < sizeof(flow_shared)) return complain({EINVAL, "flow stage", "begin", "there is no flow at that address"}), 2;
    stage mine(*a, *m, system);
    if (mine.run()) return 0;
    std::_Exit(5);  // who started it finds the reason in the pool
}

}  // namespace cohort::stream
