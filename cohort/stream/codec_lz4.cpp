// SPDX-License-Identifier: Apache-2.0
#include <lz4.h>
#include <lz4frame.h>

#include <cohort/stream/codec.hpp>
#include <cohort/stream/frames.hpp>

namespace cohort::stream::detail {

namespace {

struct free_cctx {
    void operator()(LZ4F_cctx* c) const { LZ4F_freeCompressionContext(c); }
};
struct free_dctx {
    void operator()(LZ4F_dctx* d) const { LZ4F_freeDecompressionContext(d); }
};
using dctx = std::unique_ptr<LZ4F_dctx, free_dctx>;

class lz4_compressor final : public compressor {
public:
    lz4_compressor(LZ4F_cctx* c, int level) : context_(c) {
        prefs_.compressionLevel = level;
        prefs_.autoFlush = 1;  // nothing is kept back for a later call
        prefs_.frameInfo.blockMode = LZ4F_blockIndependent;
        prefs_.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
    }
    std::size_t bound(std::size_t n) const override { return LZ4F_compressFrameBound(n, &prefs_); }
    result<std::size_t> block(byte_view in, std::span<std::uint8_t> out) override {
        prefs_.frameInfo.contentSize = in.size();
        // The smallest block size that holds the content: what a reader allocates for it.
        prefs_.frameInfo.blockSizeID = in.size() <= (64u << 10) ? LZ4F_max64KB : in.size() <= (1u << 20) ? LZ4F_max1MB : LZ4F_max4MB;
        LZ4F_compressOptions_t whole{};
        whole.stableSrc = 1;  // blocks are compressed where they lie
        std::size_t at = 0;
        for (int part = 0; part < 3; ++part) {
            std::uint8_t* to = out.data() + at;
            const std::size_t room = out.size() - at;
            const std::size_t n = part == 0   ? LZ4F_compressBegin(context_.get(), to, room, &prefs_)
                                  : part == 1 ? LZ4F_compressUpdate(context_.get(), to, room, in.data(), in.size(), &whole)
                                              : LZ4F_compressEnd(context_.get(), to, room, &whole);
            if (LZ4F_isError(n)) return fail(EIO, "lz4", "compress a block", LZ4F_getErrorName(n));
            at += n;
        }
        return at;
    }

private:
    std::unique_ptr<LZ4F_cctx, free_cctx> context_;
    LZ4F_preferences_t prefs_{};
};

class lz4_frames final : public frame_decoder {
public:
    explicit lz4_frames(dctx d) : context_(std::move(d)) {}
    done frames(byte_view in, std::span<std::uint8_t> out) override {
        done d, whole;  // d runs ahead inside a frame
        LZ4F_decompressOptions_t stable{};
        stable.stableDst = 1;
        LZ4F_resetDecompressionContext(context_.get());
        while (d.consumed < in.size()) {
            std::size_t used = in.size() - d.consumed, made = out.size() - d.produced;
            const std::size_t hint = LZ4F_decompress(context_.get(), out.data() + d.produced, &made, in.data() + d.consumed, &used, &stable);
            if (LZ4F_isError(hint) || (used == 0 && made == 0)) break;
            d.consumed += used;
            d.produced += made;
            if (hint == 0) whole = d;
        }
        return whole;
    }

private:
    dctx context_;
};

/// Two formats in one stream: frames (and skippable frames), decoded by lz4frame, and the legacy format of lz4 -l and Linux images: a magic
/// number, then blocks of a 32-bit size and as many bytes, each of up to 8 MiB of content, with no end mark and no checksum.
class lz4_stream final : public stream_decoder {
public:
    explicit lz4_stream(dctx d) : context_(std::move(d)), out_(1 << 20) {}

    result<void> feed(std::uint64_t offset, byte_view in, const byte_sink& out) override {
        std::size_t at = 0;
        while (at < in.size() || (where_ == in_frame && more_)) {
            const auto r = where_ == in_frame ? frame(offset, in, at, out) : where_ == legacy_block ? block(offset, in, at, out) : word(offset, in, at);
            if (!r) return r;
        }
        end_ = offset + in.size();
        return {};
    }
    bool at_boundary() const override { return where_ == between && have_ == 0; }
    void skip_to(std::uint64_t offset) override { end_ = offset; }
    result<void> finish() override {
        // Nothing at all is a good input to lz4 -d, and so it is here. A legacy frame ends where the input ends.
        if ((where_ == between || where_ == legacy_size) && have_ == 0) return {};
        return bad_input(codec::lz4, end_, "the input ends inside the frame that starts at byte " + std::to_string(frame_));
    }

private:
    enum place { between, in_frame, legacy_size, legacy_block };

    /// Collects four bytes: a magic number, or the size of a legacy block.
    result<void> word(std::uint64_t offset, byte_view in, std::size_t& at) {
        if (have_ == 0) {
            word_at_ = offset + at;
            if (where_ == between) frame_ = word_at_;
        }
        while (have_ < 4 && at < in.size()) word_[have_++] = in[at++];
        if (have_ < 4) return {};
        have_ = 0;
        const std::uint32_t v = load32(word_);
        if (where_ == legacy_size) {
            if (v == 0) return bad_input(codec::lz4, word_at_, "a legacy block of size 0");
            if (v <= LZ4_COMPRESSBOUND(legacy_content)) {
                where_ = legacy_block;
                block_.reserve(v);
                block_.clear();
                want_ = v;
                return {};
            }
            frame_ = word_at_;  // too large for a size: it is the next frame's magic number
        }
        if (v == lz4_legacy_magic) {
            where_ = legacy_size;
            return {};
        }
        if (v != lz4_magic && !is_skippable(v)) {
            return bad_input(codec::lz4, frame_, frame_ == 0 ? "this is no lz4 frame" : "what follows the last frame is no lz4 frame");
        }
        where_ = in_frame;
        LZ4F_resetDecompressionContext(context_.get());
        std::size_t used = 4, made = 0;
        const std::size_t hint = LZ4F_decompress(context_.get(), out_.data(), &made, word_, &used, nullptr);
        if (LZ4F_isError(hint)) return refuse(hint, offset + at);
        more_ = false;
        return {};
    }
    result<void> frame(std::uint64_t offset, byte_view in, std::size_t& at, const byte_sink& out) {
        std::size_t used = in.size() - at, made = out_.capacity();
        const std::size_t hint = LZ4F_decompress(context_.get(), out_.data(), &made, in.data() + at, &used, nullptr);
        if (LZ4F_isError(hint)) return refuse(hint, offset + at + used);
        at += used;
        more_ = made == out_.capacity();
        if (hint == 0) {
            where_ = between;
            more_ = false;
        }
        return made ? out({out_.data(), made}) : result<void>{};
    }
    result<void> block(std::uint64_t offset, byte_view in, std::size_t& at, const byte_sink& out) {
        const std::size_t part = std::min(in.size() - at, want_ - block_.size());
        block_.append(in.subspan(at, part));
        at += part;
        if (block_.size() < want_) return {};
        out_.reserve(legacy_content);
        const int n = LZ4_decompress_safe(reinterpret_cast<const char*>(block_.data()), reinterpret_cast<char*>(out_.data()), static_cast<int>(want_),
                                          static_cast<int>(legacy_content));
        if (n < 0) return bad_input(codec::lz4, offset + at - want_, "a legacy block is damaged");
        where_ = legacy_size;
        return n ? out({out_.data(), static_cast<std::size_t>(n)}) : result<void>{};
    }
    result<void> refuse(std::size_t code, std::uint64_t at) {
        return bad_input(codec::lz4, at, std::string(LZ4F_getErrorName(code)) + ", in the frame that starts at byte " + std::to_string(frame_));
    }

    static constexpr std::size_t legacy_content = 8u << 20;

    dctx context_;
    buffer out_, block_;
    place where_ = between;
    std::uint8_t word_[4] = {};
    std::size_t have_ = 0, want_ = 0;
    std::uint64_t frame_ = 0, word_at_ = 0, end_ = 0;
    bool more_ = false;
};

dctx make_dctx() {
    LZ4F_dctx* d = nullptr;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&d, LZ4F_VERSION))) return nullptr;
    return dctx(d);
}

}  // namespace

std::unique_ptr<compressor> make_lz4_compressor(int level) {
    LZ4F_cctx* c = nullptr;
    if (LZ4F_isError(LZ4F_createCompressionContext(&c, LZ4F_VERSION))) return nullptr;
    return std::make_unique<lz4_compressor>(c, level);
}

std::unique_ptr<frame_decoder> make_lz4_frames() {
    dctx d = make_dctx();
    return d ? std::make_unique<lz4_frames>(std::move(d)) : nullptr;
}

std::unique_ptr<stream_decoder> make_lz4_stream(const decode_options&) {
    dctx d = make_dctx();
    return d ? std::make_unique<lz4_stream>(std::move(d)) : nullptr;
}

}  // namespace cohort::stream::detail
