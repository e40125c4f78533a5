// SPDX-License-Identifier: Apache-2.0
#include "capture.hpp"

#include <pcap/pcap.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include <cohort/sys/os.hpp>

namespace esp {

using cohort::fail;
using cohort::result;

namespace {

/// Does a file that begins with these bytes count nanoseconds? libpcap reads every file in the unit that it is asked for, and does not tell the file's own.
/// pcapng has units of its own for each interface; nanoseconds lose nothing of them.
bool counts_nanoseconds(const unsigned char (&magic)[4]) {
    const std::uint32_t m = std::uint32_t{magic[0]} << 24 | std::uint32_t{magic[1]} << 16 | std::uint32_t{magic[2]} << 8 | magic[3];
    return m == 0xa1b23c4d || m == 0x4d3cb2a1 || m == 0x0a0d0d0a;
}

/// Reads the first four bytes and puts them back: into the buffer of the stream, which holds them, so that it works on pipes too.
bool peek(std::FILE* file, unsigned char (&magic)[4]) {
    const std::size_t got = std::fread(magic, 1, 4, file);
    for (std::size_t i = got; i-- > 0;) {
        if (std::ungetc(magic[i], file) == EOF) return false;
    }
    return got == 4;
}

}  // namespace

void capture_reader::closer::operator()(pcap* p) const { pcap_close(p); }

result<capture_reader> capture_reader::open(const std::string& path) {
    capture_reader r;
    r.name_ = path == "-" ? "standard input" : path;
    std::FILE* file = path == "-" ? stdin : std::fopen(path.c_str(), "rbe");
    if (!file) {
        const int code = errno;
        return fail(code, r.name_, "open", cohort::errno_text(code));
    }
    unsigned char magic[4] = {};
    char why[PCAP_ERRBUF_SIZE] = "it has fewer than four bytes";
    if (peek(file, magic)) {
        r.nanoseconds_ = counts_nanoseconds(magic);
        r.pcap_.reset(pcap_fopen_offline_with_tstamp_precision(file, r.nanoseconds_ ? PCAP_TSTAMP_PRECISION_NANO : PCAP_TSTAMP_PRECISION_MICRO, why));
    }
    if (!r.pcap_) {
        if (file != stdin) std::fclose(file);
        return fail(EINVAL, r.name_, "read as a capture", why);
    }
    const int type = pcap_datalink(r.pcap_.get());
    if (type != DLT_EN10MB && type != DLT_RAW) {
        const char* known = pcap_datalink_val_to_name(type);
        return fail(EINVAL, r.name_, "read as a capture", "its link type is " + (known ? std::string(known) : std::to_string(type)) + "; EN10MB (Ethernet) and RAW (IP) are read");
    }
    r.link_ = type == DLT_EN10MB ? link_type::ethernet : link_type::raw;
    return r;
}

int capture_reader::snapshot() const { return pcap_snapshot(pcap_.get()); }

result<bool> capture_reader::next(capture_header& header, const std::uint8_t*& bytes) {
    pcap_pkthdr* h = nullptr;
    const int got = pcap_next_ex(pcap_.get(), &h, &bytes);
    if (got == PCAP_ERROR_BREAK) return false;
    if (got != 1) return fail(EIO, name_, "read packet " + std::to_string(read_ + 1), pcap_geterr(pcap_.get()));
    header = {h->ts.tv_sec, h->ts.tv_usec, h->caplen, h->len};
    ++read_;
    return true;
}

void capture_writer::closer::operator()(pcap* p) const { pcap_close(p); }
void capture_writer::closer::operator()(pcap_dumper* d) const { pcap_dump_close(d); }

result<capture_writer> capture_writer::create(const std::string& path, const capture_reader& like) {
    capture_writer w;
    w.name_ = path == "-" ? "standard output" : path;
    std::FILE* file = nullptr;
    std::error_code ignored;
    const auto status = std::filesystem::status(path, ignored);
    if (path == "-") {
        if (isatty(STDOUT_FILENO)) return fail(EINVAL, w.name_, "write a capture", "it is a terminal");
        file = fdopen(dup(STDOUT_FILENO), "wb");
    } else if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) && !std::filesystem::is_directory(status)) {
        file = std::fopen(path.c_str(), "wbe");  // a device or a pipe: it is not to be renamed over
    } else {
        auto temp = cohort::sys::temp_file::create(cohort::sys::real(), path);
        if (!temp) return std::unexpected(temp.error());
        w.temp_.emplace(std::move(*temp));
        file = fdopen(dup(w.temp_->fd()), "wb");
    }
    if (!file) {
        const int code = errno;
        return fail(code, w.name_, "open for writing", cohort::errno_text(code));
    }
    // libpcap cuts packets that are longer than the file's snapshot length, and ESP makes them longer.
    const int snapshot = std::max(like.snapshot(), 262144);
    w.dead_.reset(pcap_open_dead_with_tstamp_precision(like.link() == link_type::ethernet ? DLT_EN10MB : DLT_RAW, snapshot,
                                                       like.nanoseconds() ? PCAP_TSTAMP_PRECISION_NANO : PCAP_TSTAMP_PRECISION_MICRO));
    if (w.dead_) w.dumper_.reset(pcap_dump_fopen(w.dead_.get(), file));
    if (!w.dumper_) {
        std::fclose(file);
        return fail(EIO, w.name_, "write a capture", w.dead_ ? pcap_geterr(w.dead_.get()) : "no memory");
    }
    return w;
}

void capture_writer::write(const capture_header& header, const std::uint8_t* bytes) {
    pcap_pkthdr h{};
    h.ts.tv_sec = header.seconds;
    h.ts.tv_usec = header.fraction;
    h.caplen = header.captured;
    h.len = header.length;
    if (error_) return;
    pcap_dump(reinterpret_cast<u_char*>(dumper_.get()), &h, bytes);
    if (std::ferror(pcap_dump_file(dumper_.get()))) error_ = errno ? errno : EIO;
}

result<void> capture_writer::commit() {
    if (!error_ && pcap_dump_flush(dumper_.get()) != 0) error_ = errno ? errno : EIO;
    if (error_) return fail(error_, name_, "write", cohort::errno_text(error_));
    dumper_.reset();
    return temp_ ? temp_->commit() : result<void>{};
}

}  // namespace esp
