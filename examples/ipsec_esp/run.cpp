// SPDX-License-Identifier: Apache-2.0
#include "run.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <random>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include <cohort/padata/control.hpp>
#include <cohort/sys/signals.hpp>

#include "capture.hpp"

namespace esp {

namespace padata = cohort::padata;
using cohort::fail;
using cohort::result;

namespace {

/// What a burst's packets stand in.
struct buffers {
    static constexpr std::size_t usual = std::size_t{burst::most} * 2048;
    static constexpr std::size_t more = 2 * 64;  // that a packet may need in `out`
    std::vector<std::uint8_t> in = std::vector<std::uint8_t>(usual), out = std::vector<std::uint8_t>(usual + burst::most * more);
    std::array<capture_header, burst::most> headers{};
    std::size_t used = 0, reserved = 0;

    /// Neighbours are worked on by different CPUs: each has its own cache lines.
    static std::size_t lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }
    /// Room for one more packet? An empty burst has room for any.
    bool room_for(std::uint32_t captured) {
        if (used + lines(captured + tail_room) <= in.size()) return true;
        if (used != 0) return false;
        in.resize(lines(captured + tail_room));
        out.resize(in.size() + burst::most * more);
        return true;
    }

    void add(burst& b, const capture_header& h, const std::uint8_t* bytes) {
        packet& p = b.packets[b.count];
        p = {};
        p.in = in.data() + used;
        p.out = out.data() + reserved;
        p.captured = h.captured;
        std::copy_n(bytes, h.captured, p.in);
        headers[b.count++] = h;
        used += lines(h.captured + tail_room);
        reserved += lines(h.captured + seal_room);
    }
};

class runner {
public:
    runner(const run_options& options, std::stop_token stop) : options_(options), stop_(std::move(stop)) {}
    result<run_report> run();

private:
    result<void> read_all(tunnel& t);
    void deliver(burst& b);
    void refuse(const packet& p, std::uint64_t number);

    const run_options& options_;
    std::stop_token stop_;
    std::optional<capture_reader> in_;     // [owner: the reader]
    std::optional<capture_writer> out_;    // [owner: the deliverer]
    std::optional<sa_table> table_;
    std::vector<std::unique_ptr<buffers>> buffers_;
    run_report report_;                    // [owner: the deliverer until finish(), then the reader]
    std::uint64_t said_ = 0;               // [owner: the deliverer]
    std::atomic<bool> cannot_write_{false};
};

result<run_report> runner::run() {
    auto table = sa_table::load(options_.sa_file);
    if (!table) return std::unexpected(table.error());
    table_.emplace(std::move(*table));
    auto in = capture_reader::open(options_.input);
    if (!in) return std::unexpected(in.error());
    in_.emplace(std::move(*in));
    auto out = capture_writer::create(options_.output, *in_);
    if (!out) return std::unexpected(out.error());
    out_.emplace(std::move(*out));

    tunnel_options shape{.way = options_.way, .link = in_->link(), .shells = options_.shells, .parallel = options_.parallel, .serial = options_.serial};
    // Sequence numbers begin again with each run, but no IV may come twice with one key (RFC 4106 section 3.1).
    shape.iv_high = options_.iv_high ? *options_.iv_high : std::random_device{}();
    shape.while_stopped = [this, told = false](const cohort::error& why) mutable {
        if (!std::exchange(told, true)) std::fprintf(stderr, "ipsec_esp: waiting: %s\n", why.line().c_str());
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        return !stop_.stop_requested();
    };
    auto made = tunnel::create(*table_, shape, [this](burst& b) { deliver(b); });
    if (!made) return std::unexpected(made.error());
    tunnel& t = **made;
    std::unique_ptr<padata::control> masks;
    if (!options_.control.empty()) {
        auto c = padata::control::create(t.instance(), {.directory = options_.control});
        if (!c) return std::unexpected(c.error());
        masks = std::move(*c);
    }

    const auto began = std::chrono::steady_clock::now();
    auto read = read_all(t);
    auto finished = t.finish();
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    report_.instance = t.instance().name();
    report_.parallel = t.instance().usable_mask(padata::mask_kind::parallel).list();
    report_.serial = t.instance().usable_mask(padata::mask_kind::serial).list();
    report_.shells = t.shells();
    if (stop_.stop_requested()) return fail(ECANCELED, in_->name(), "read", "stopped");
    if (!finished) return std::unexpected(finished.error());
    if (auto r = out_->commit(); !r) return std::unexpected(r.error());
    if (!read) report_.ended_by = read.error();
    return std::move(report_);
}

/// Everything that was read is submitted, also when an error ends the reading.
result<void> runner::read_all(tunnel& t) {
    capture_header h;
    const std::uint8_t* bytes = nullptr;
    burst* b = nullptr;
    for (;;) {
        auto more = in_->next(h, bytes);
        if (!more || !*more || stop_.stop_requested() || cannot_write_.load(std::memory_order_relaxed)) {
            auto sent = b ? t.submit(*b) : result<void>{};
            return more ? sent : std::unexpected(more.error());
        }
        if (b && (b->count == burst::most || !static_cast<buffers*>(b->user)->room_for(h.captured))) {
            if (auto r = t.submit(*b); !r) return r;
            b = nullptr;
        }
        if (!b) {
            b = &t.next();
            if (!b->user) b->user = buffers_.emplace_back(std::make_unique<buffers>()).get();
            auto* own = static_cast<buffers*>(b->user);
            own->used = own->reserved = 0;
            (void)own->room_for(h.captured);
        }
        static_cast<buffers*>(b->user)->add(*b, h, bytes);
    }
}

/// In the order of the input; one burst at a time.
void runner::deliver(burst& b) {
    auto& own = *static_cast<buffers*>(b.user);
    for (std::uint32_t i = 0; i < b.count; ++i) {
        const packet& p = b.packets[i];
        capture_header h = own.headers[i];
        ++report_.read;
        ++report_.packets[static_cast<std::size_t>(p.what)];
        report_.bytes_in += h.captured;
        if (!delivers(p.what)) {
            if (refuses(p.what)) refuse(p, b.first + i + 1);
            continue;
        }
        const bool same = p.what == verdict::passed;
        const std::uint32_t bytes = same ? p.captured : p.out_bytes;
        h.length = h.length - h.captured + bytes;  // what the capture left out of the link layer's trailer stays left out
        h.captured = bytes;
        out_->write(h, same ? p.in : p.out);
        ++report_.written;
        report_.bytes_out += bytes;
    }
    if (!out_->good()) cannot_write_.store(true, std::memory_order_relaxed);
}

void runner::refuse(const packet& p, std::uint64_t number) {
    if (said_++ >= options_.say) return;
    std::string line = "ipsec_esp: " + in_->name() + ": packet " + std::to_string(number) + ": refused: " + reason_of(p.what);
    if (p.sa >= 0) {
        char which[64];
        std::snprintf(which, sizeof which, " (SPI 0x%x, sequence number %u)", (*table_)[static_cast<std::size_t>(p.sa)].spi, p.seq);
        if (p.what != verdict::too_long && p.what != verdict::used_up) line += which;
    }
    std::fprintf(stderr, "%s\n", line.c_str());
}

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        char hex[8];
        if (c == '"' || c == '\\') out += {'\\', c};
        else if (static_cast<unsigned char>(c) < 0x20) std::snprintf(hex, sizeof hex, "\\u%04x", c), out += hex;
        else out += c;
    }
    return out + "\"";
}

}  // namespace

std::uint64_t run_report::refused() const {
    std::uint64_t n = 0;
    for (int v = 0; v < verdicts; ++v) n += refuses(static_cast<verdict>(v)) ? packets[static_cast<std::size_t>(v)] : 0;
    return n;
}

result<run_report> run(const run_options& options, int& signal) {
    auto caught = cohort::sys::signal_catcher::create();
    if (!caught) return std::unexpected(caught.error());
    auto r = runner(options, caught->token()).run();
    signal = caught->signal();
    return r;
}

std::string text_of(const run_report& r, const run_options& options) {
    char line[512];
    const char* verb = options.way == direction::encrypt ? "encrypted" : "decrypted";
    const std::uint64_t done = r.of(options.way == direction::encrypt ? verdict::sealed : verdict::opened);
    std::snprintf(line, sizeof line, "ipsec_esp: %llu packets read, %llu %s, %llu passed, %llu refused, %.3f s, %.0f packets/s (%s: %u shells, parallel %s, serial %s)\n",
                  static_cast<unsigned long long>(r.read), static_cast<unsigned long long>(done), verb, static_cast<unsigned long long>(r.of(verdict::passed)),
                  static_cast<unsigned long long>(r.refused()), r.seconds, r.seconds > 0 ? static_cast<double>(r.read) / r.seconds : 0.0, r.instance.c_str(), r.shells,
                  r.parallel.c_str(), r.serial.c_str());
    std::string out = line;
    for (int i = static_cast<int>(verdict::dummy); i < verdicts; ++i) {
        const auto v = static_cast<verdict>(i);
        if (r.of(v)) out += "ipsec_esp: " + std::to_string(r.of(v)) + " x " + reason_of(v) + "\n";
    }
    if (r.refused() > options.say) out += "ipsec_esp: " + std::to_string(r.refused() - options.say) + " refused packets were not named one by one (--say N)\n";
    return out;
}

std::string json_of(const run_report& r, const run_options& options) {
    std::string out = "{\"schema_version\": 1, \"act\": ";
    out += options.way == direction::encrypt ? "\"encrypt\"" : "\"decrypt\"";
    out += ", \"input\": " + quoted(options.input) + ", \"output\": " + quoted(options.output);
    out += ", \"packets\": {\"read\": " + std::to_string(r.read) + ", \"written\": " + std::to_string(r.written) + ", \"refused\": " + std::to_string(r.refused());
    for (int v = 0; v < verdicts; ++v) out += std::string(", \"") + name_of(static_cast<verdict>(v)) + "\": " + std::to_string(r.packets[static_cast<std::size_t>(v)]);
    out += "}, \"bytes\": {\"in\": " + std::to_string(r.bytes_in) + ", \"out\": " + std::to_string(r.bytes_out) + "}";
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, "%.6f", r.seconds);
    out += std::string(", \"seconds\": ") + seconds + ", \"instance\": {\"name\": " + quoted(r.instance) + ", \"shells\": " + std::to_string(r.shells) +
           ", \"parallel\": " + quoted(r.parallel) + ", \"serial\": " + quoted(r.serial) + "}";
    out += ", \"ended_by\": " + (r.ended_by ? quoted(r.ended_by->line()) : std::string("null")) + "}\n";
    return out;
}

}  // namespace esp
