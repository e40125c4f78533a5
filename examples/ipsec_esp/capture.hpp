// SPDX-License-Identifier: Apache-2.0
/// Capture files, by libpcap: packets in, packets out, time stamps as they were.
///
///     auto in = capture_reader::open("in.pcap");
///     while (auto more = in->next(header, bytes); more && *more) ...
///
/// Reads what libpcap reads (pcap in any byte order, pcapng); writes pcap. Link types: Ethernet and raw IP.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <cohort/base/error.hpp>
#include <cohort/sys/fd.hpp>

#include "frame.hpp"

struct pcap;
struct pcap_dumper;

namespace esp {

struct capture_header {
    std::int64_t seconds = 0;
    std::int64_t fraction = 0;      ///< of a second, in the file's unit
    std::uint32_t captured = 0, length = 0;
};

/// A resource. One thread.
class capture_reader {
public:
    /// path: a file, a pipe, or "-" for standard input. Errors: those of opening; EINVAL: not a capture, or another link type.
    static cohort::result<capture_reader> open(const std::string& path);

    /// False: the end. `bytes` are good until the next call. Errors: EIO, the file ends inside a packet or is not what it should be.
    cohort::result<bool> next(capture_header& header, const std::uint8_t*& bytes);

    link_type link() const { return link_; }
    bool nanoseconds() const { return nanoseconds_; }
    int snapshot() const;
    const std::string& name() const { return name_; }

private:
    struct closer {
        void operator()(pcap* p) const;
    };
    std::unique_ptr<pcap, closer> pcap_;
    std::string name_;
    link_type link_ = link_type::ethernet;
    bool nanoseconds_ = false;
    std::uint64_t read_ = 0;
};

/// A resource. One thread at a time. A regular file appears under its name at commit(), or not at all.
class capture_writer {
public:
    /// path: a file, or "-" for standard output. Errors: those of opening.
    static cohort::result<capture_writer> create(const std::string& path, const capture_reader& like);

    /// Errors are kept until good() or commit().
    void write(const capture_header& header, const std::uint8_t* bytes);
    /// False once a write has failed.
    bool good() const { return error_ == 0; }
    /// Errors: those of writing, closing and renaming; then there is no file.
    cohort::result<void> commit();

private:
    struct closer {
        void operator()(pcap* p) const;
        void operator()(pcap_dumper* d) const;
    };
    std::string name_;
    std::optional<cohort::sys::temp_file> temp_;
    std::unique_ptr<pcap, closer> dead_;
    std::unique_ptr<pcap_dumper, closer> dumper_;
    int error_ = 0;  // the errno of the first write that failed
};

}  // namespace esp
