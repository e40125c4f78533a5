// SPDX-License-Identifier: Apache-2.0
/// The two ends of a pipe run: where bytes come from and where they go. Both wait with an eye on the run's stop descriptor, so that a signal is
/// answered while a slow neighbour is not.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include <cohort/stream/block.hpp>
#include <cohort/stream/pipe.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::stream::detail {

/// A flag that threads can poll: readable once it is raised. A resource.
class stop_flag {
public:
    /// Errors: those of pipe().
    static result<std::unique_ptr<stop_flag>> create(sys::os& system);
    /// Any thread, any number of times.
    void raise();
    int fd() const { return read_.get(); }

private:
    stop_flag(sys::os& system, sys::pipe_ends ends) : read_(system, ends.read), write_(system, ends.write) {}
    sys::owned_fd read_, write_;
    std::atomic<bool> raised_{false};  // [atomic: raise() sets it, so that the pipe never fills]
};

/// The input. One thread.
class source {
public:
    /// Errors: those of open; EISDIR.
    static result<source> open(const pipe_options& options, sys::os& system);
    /// One that is read elsewhere: a name.
    static source elsewhere(std::string name);

    const std::string& name() const { return name_; }
    /// Bytes of a regular file that is read from its start.
    std::optional<std::uint64_t> size() const { return size_; }
    /// Reads until `into` is full or the input ends; answers how much. Errors: those of read; ECANCELED.
    result<std::size_t> fill(std::span<std::uint8_t> into, int stop_fd);

private:
    sys::os* os_ = nullptr;
    sys::owned_fd own_;
    int fd_ = -1;
    bool waits_ = false;  // a pipe, socket or terminal: read may wait
    bool ended_ = false;
    std::string name_;
    std::optional<std::uint64_t> size_;
};

/// Where the output of a run goes. One thread at a time.
class outlet {
public:
    virtual ~outlet() = default;
    virtual const std::string& name() const = 0;
    /// Errors: those of write; ECANCELED.
    virtual result<void> write(byte_view bytes, int stop_fd) = 0;
    /// The same, after which the buffer is the pool's.
    virtual result<void> write_and_give(buffer bytes, buffer_pool& pool, int stop_fd) {
        auto r = write(bytes.view(), stop_fd);
        pool.give(std::move(bytes));
        return r;
    }
    virtual std::uint64_t written() const = 0;
    /// All has been written. Errors: those of close, fsync, rename; then there is no file.
    virtual result<void> commit() = 0;
};

/// A file, pipe or device.
class sink final : public outlet {
public:
    /// Errors: EEXIST, EISDIR, ENOENT (the directory), those of open.
    static result<sink> open(const pipe_options& options, sys::os& system);

    const std::string& name() const override { return name_; }
    result<void> write(byte_view bytes, int stop_fd) override;
    std::uint64_t written() const override { return written_; }
    /// The file gets its name.
    result<void> commit() override;

private:
    sys::os* os_ = nullptr;
    std::unique_ptr<sys::temp_file> temp_;
    sys::owned_fd own_;
    int fd_ = -1;
    bool waits_ = false, sync_ = false;
    std::string name_;
    std::uint64_t written_ = 0;
};

inline std::span<const std::byte> as_bytes(byte_view v) { return std::as_bytes(v); }

}  // namespace cohort::stream::detail
