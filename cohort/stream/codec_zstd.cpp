// SPDX-License-Identifier: Apache-2.0
#include <zstd.h>
#include <zstd_errors.h>

#include <bit>

#include <cohort/stream/codec.hpp>

namespace cohort::stream::detail {

namespace {

struct free_cctx {
    void operator()(ZSTD_CCtx* c) const { ZSTD_freeCCtx(c); }
};
struct free_dctx {
    void operator()(ZSTD_DCtx* d) const { ZSTD_freeDCtx(d); }
};

class zstd_compressor final : public compressor {
public:
    explicit zstd_compressor(ZSTD_CCtx* c) : context_(c) {}
    std::size_t bound(std::size_t n) const override { return ZSTD_compressBound(n); }
    result<std::size_t> block(byte_view in, std::span<std::uint8_t> out) override {
        // One call: the content size is known to the frame header, and neither input nor output is copied inside.
        const std::size_t n = ZSTD_compress2(context_.get(), out.data(), out.size(), in.data(), in.size());
        if (ZSTD_isError(n)) return fail(EIO, "zstd", "compress a block", ZSTD_getErrorName(n));
        return n;
    }

private:
    std::unique_ptr<ZSTD_CCtx, free_cctx> context_;
};

class zstd_frames final : public frame_decoder {
public:
    explicit zstd_frames(ZSTD_DCtx* d) : context_(d) {}
    done frames(byte_view in, std::span<std::uint8_t> out) override {
        const std::size_t n = ZSTD_decompressDCtx(context_.get(), out.data(), out.size(), in.data(), in.size());
        if (ZSTD_isError(n)) return {};
        return {in.size(), n};
    }

private:
    std::unique_ptr<ZSTD_DCtx, free_dctx> context_;
};

class zstd_stream final : public stream_decoder {
public:
    zstd_stream(ZSTD_DCtx* d, const decode_options& o) : context_(d), out_(1 << 20), max_window_(o.max_window) {}

    result<void> feed(std::uint64_t offset, byte_view in, const byte_sink& out) override {
        ZSTD_inBuffer from{in.data(), in.size(), 0};
        bool more = true;  // the decoder may hold output back even when it has taken all input
        while (from.pos < from.size || more) {
            if (from.pos == from.size && boundary_) break;
            if (boundary_) frame_ = offset + from.pos;
            ZSTD_outBuffer to{out_.data(), out_.capacity(), 0};
            const std::size_t hint = ZSTD_decompressStream(context_.get(), &to, &from);
            if (ZSTD_isError(hint)) return refuse(hint, offset + from.pos);
            any_ = true;
            boundary_ = hint == 0;
            more = to.pos == to.size;
            if (to.pos) {
                if (auto r = out({out_.data(), to.pos}); !r) return r;
            }
        }
        end_ = offset + in.size();
        return {};
    }
    bool at_boundary() const override { return boundary_; }
    void skip_to(std::uint64_t offset) override {
        end_ = offset;
        any_ = true;
    }
    result<void> finish() override {
        if (!boundary_) return bad_input(codec::zstd, end_, "the input ends inside the frame that starts at byte " + std::to_string(frame_));
        if (!any_) return bad_input(codec::zstd, 0, "the input is empty");
        return {};
    }

private:
    result<void> refuse(std::size_t code, std::uint64_t at) {
        switch (ZSTD_getErrorCode(code)) {
            case ZSTD_error_prefix_unknown:
                return bad_input(codec::zstd, frame_, frame_ == 0 ? "this is no zstd frame" : "what follows the last frame is no zstd frame");
            case ZSTD_error_frameParameter_windowTooLarge:
                return bad_input(codec::zstd, frame_,
                                 "the frame needs a window of over " + std::to_string(max_window_ >> 20) +
                                     " MiB, the limit; a larger memory limit allows it (zstd: --long or --memory)", EFBIG);
            case ZSTD_error_checksum_wrong:
                return bad_input(codec::zstd, at, "the checksum of the frame that starts at byte " + std::to_string(frame_) + " does not match");
            default:
                return bad_input(codec::zstd, at, std::string(ZSTD_getErrorName(code)) + ", in the frame that starts at byte " + std::to_string(frame_));
        }
    }

    std::unique_ptr<ZSTD_DCtx, free_dctx> context_;
    buffer out_;
    std::uint64_t max_window_, frame_ = 0, end_ = 0;
    bool boundary_ = true, any_ = false;
};

}  // namespace

std::unique_ptr<compressor> make_zstd_compressor(int level) {
    ZSTD_CCtx* c = ZSTD_createCCtx();
    if (!c) return nullptr;
    auto made = std::make_unique<zstd_compressor>(c);
    ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 1);
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    return made;
}

std::unique_ptr<frame_decoder> make_zstd_frames() {
    ZSTD_DCtx* d = ZSTD_createDCtx();
    return d ? std::make_unique<zstd_frames>(d) : nullptr;
}

std::unique_ptr<stream_decoder> make_zstd_stream(const decode_options& options) {
    ZSTD_DCtx* d = ZSTD_createDCtx();
    if (!d) return nullptr;
    auto made = std::make_unique<zstd_stream>(d, options);
    const ZSTD_bounds limits = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax);
    const int log = static_cast<int>(std::bit_width(options.max_window)) - 1;
    ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, std::min(std::max(log, limits.lowerBound), limits.upperBound));
    return made;
}

}  // namespace cohort::stream::detail
