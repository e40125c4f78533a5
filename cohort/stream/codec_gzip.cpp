// SPDX-License-Identifier: Apache-2.0
// gzip: members of RFC 1952, written by libdeflate. Ours carry an extra field with their own compressed size, so that a reader can find the next
// member without decoding this one:
//
//     1f 8b 08 04 | mtime 0 | xfl 0 | os 255 | xlen 8 | 'C' 'o' | len 4 | member size | deflate ... | crc32 | isize
#include <libdeflate.h>
#include <zlib.h>

#include <cohort/stream/codec.hpp>
#include <cohort/stream/frames.hpp>

namespace cohort::stream::detail {

namespace {

constexpr std::size_t header_bytes = 20, trailer_bytes = 8;

void put32(std::uint8_t* p, std::uint32_t v) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<std::uint8_t>(v >> (8 * i));
}

struct free_compressor {
    void operator()(libdeflate_compressor* c) const { libdeflate_free_compressor(c); }
};
struct free_decompressor {
    void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
};

class gzip_compressor final : public compressor {
public:
    explicit gzip_compressor(libdeflate_compressor* c) : context_(c) {}
    std::size_t bound(std::size_t n) const override {
        return header_bytes + libdeflate_deflate_compress_bound(context_.get(), n) + trailer_bytes;
    }
    result<std::size_t> block(byte_view in, std::span<std::uint8_t> out) override {
        static constexpr std::uint8_t header[16] = {0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 8, 0, gzip_size_id[0], gzip_size_id[1], 4, 0};
        const std::size_t n = libdeflate_deflate_compress(context_.get(), in.data(), in.size(), out.data() + header_bytes,
                                                          out.size() - header_bytes - trailer_bytes);
        if (n == 0) return fail(EIO, "gzip", "compress a block", "the output buffer is too small");
        const std::size_t size = header_bytes + n + trailer_bytes;
        std::memcpy(out.data(), header, sizeof header);
        put32(out.data() + sizeof header, static_cast<std::uint32_t>(size));
        put32(out.data() + size - 8, libdeflate_crc32(0, in.data(), in.size()));
        put32(out.data() + size - 4, static_cast<std::uint32_t>(in.size()));
        return size;
    }

private:
    std::unique_ptr<libdeflate_compressor, free_compressor> context_;
};

class gzip_frames final : public frame_decoder {
public:
    explicit gzip_frames(libdeflate_decompressor* d) : context_(d) {}
    done frames(byte_view in, std::span<std::uint8_t> out) override {
        done d;
        while (d.consumed < in.size()) {
            std::size_t used = 0, made = 0;
            if (libdeflate_gzip_decompress_ex(context_.get(), in.data() + d.consumed, in.size() - d.consumed, out.data() + d.produced,
                                              out.size() - d.produced, &used, &made) != LIBDEFLATE_SUCCESS) {
                break;
            }
            d.consumed += used;
            d.produced += made;
        }
        return d;
    }

private:
    std::unique_ptr<libdeflate_decompressor, free_decompressor> context_;
};

class gzip_stream final : public stream_decoder {
public:
    gzip_stream() : out_(1 << 20) {}
    ~gzip_stream() override { inflateEnd(&z_); }
    bool start() { return inflateInit2(&z_, 31) == Z_OK; }  // 31: 32 KiB window, gzip wrapper

    result<void> feed(std::uint64_t offset, byte_view in, const byte_sink& out) override {
        std::size_t at = 0;
        while (at < in.size()) {
            if (boundary_) {
                if (any_ && in[at] == 0) padding_ = true;
                if (padding_) {
                    // gzip skips zeros behind the last member (tapes), and only zeros.
                    while (at < in.size() && in[at] == 0) ++at;
                    if (at < in.size()) return garbage(offset + at);
                    break;
                }
                if (any_ && in[at] != 0x1f) return garbage(offset + at);
                member_ = offset + at;
                inflateReset(&z_);
                boundary_ = false;
            }
            // zlib counts in 32 bits.
            const std::size_t part = std::min<std::size_t>(in.size() - at, 1u << 30);
            z_.next_in = const_cast<Bytef*>(in.data() + at);
            z_.avail_in = static_cast<uInt>(part);
            z_.next_out = out_.data();
            z_.avail_out = static_cast<uInt>(out_.capacity());
            const int code = inflate(&z_, Z_NO_FLUSH);
            at += part - z_.avail_in;
            const std::size_t made = out_.capacity() - z_.avail_out;
            // What a wrong member says of itself is not passed on: its checksum may have been the fault.
            if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) return refuse(code, offset + at);
            if (made) {
                if (auto r = out({out_.data(), made}); !r) return r;
            }
            if (code == Z_STREAM_END) boundary_ = any_ = true;
        }
        end_ = offset + in.size();
        return flush(out);
    }
    bool at_boundary() const override { return boundary_ && !padding_; }
    void skip_to(std::uint64_t offset) override {
        end_ = offset;
        any_ = true;
    }
    result<void> finish() override {
        if (!boundary_) return bad_input(codec::gzip, end_, "the input ends inside the member that starts at byte " + std::to_string(member_));
        if (!any_) return bad_input(codec::gzip, end_, "the input is empty");
        return {};
    }

private:
    /// Output that zlib holds back because its buffer was full when the input ended.
    result<void> flush(const byte_sink& out) {
        while (!boundary_) {
            z_.avail_in = 0;
            z_.next_out = out_.data();
            z_.avail_out = static_cast<uInt>(out_.capacity());
            const int code = inflate(&z_, Z_NO_FLUSH);
            const std::size_t made = out_.capacity() - z_.avail_out;
            if (code == Z_STREAM_END) boundary_ = any_ = true;
            else if (code != Z_OK && code != Z_BUF_ERROR) return refuse(code, end_);
            if (made == 0) return {};
            if (auto r = out({out_.data(), made}); !r) return r;
        }
        return {};
    }
    result<void> garbage(std::uint64_t at) {
        return bad_input(codec::gzip, at, "what follows the last member is no gzip (gzip itself would warn \"trailing garbage ignored\" and exit 2)");
    }
    result<void> refuse(int code, std::uint64_t at) {
        const std::string why = z_.msg ? z_.msg : code == Z_NEED_DICT ? "it needs a dictionary" : "zlib error " + std::to_string(code);
        if (why == "incorrect header check") {
            if (any_) return garbage(member_);
            return bad_input(codec::gzip, member_, "this is no gzip member");
        }
        return bad_input(codec::gzip, at, why + ", in the member that starts at byte " + std::to_string(member_));
    }

    z_stream z_{};
    buffer out_;
    std::uint64_t member_ = 0, end_ = 0;
    bool boundary_ = true, any_ = false, padding_ = false;
};

}  // namespace

std::unique_ptr<compressor> make_gzip_compressor(int level) {
    libdeflate_compressor* c = libdeflate_alloc_compressor(level);
    return c ? std::make_unique<gzip_compressor>(c) : nullptr;
}

std::unique_ptr<frame_decoder> make_gzip_frames() {
    libdeflate_decompressor* d = libdeflate_alloc_decompressor();
    return d ? std::make_unique<gzip_frames>(d) : nullptr;
}

std::unique_ptr<stream_decoder> make_gzip_stream(const decode_options&) {
    auto made = std::make_unique<gzip_stream>();
    if (!made->start()) return nullptr;
    return made;
}

}  // namespace cohort::stream::detail
