// SPDX-License-Identifier: Apache-2.0
/// The second of two tenants: encrypts what the first one passes on (compress.cpp), where it lies, with AES-256-GCM on all CPUs that it may use, and writes it in order. It alone has the key.
///
///     encrypt KEYFILE <handle >out      the first line of standard input is the channel's address
///     encrypt --open KEYFILE <out       the way back: what compress had packed
///
/// Output: for each block its size (8 bytes, little endian), 16 bytes that authenticate it, its bytes; at the end one of size 0. A block's number is its nonce, so none can be left out, moved or cut off
/// unnoticed. A key is for one output.
#include <openssl/evp.h>

#include <array>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <cohort/padata/instance.hpp>
#include <cohort/padata/shell.hpp>

#include "../sharepool/pool_program.hpp"
#include "packed.hpp"

namespace {

using namespace example;
using tag = std::array<unsigned char, 16>;
using key = std::array<unsigned char, 32>;

constexpr char me[] = "encrypt";

[[noreturn]] void give_up(const char* why) {
    std::fprintf(stderr, "encrypt: %s\n", why);
    std::exit(5);
}

key read_key(const char* path) {
    std::ifstream in(path, std::ios::binary);
    key k;
    if (!in.read(reinterpret_cast<char*>(k.data()), k.size())) give_up("the key has to be 32 bytes");
    return k;
}

struct free_context {
    void operator()(EVP_CIPHER_CTX* c) const { EVP_CIPHER_CTX_free(c); }
};

/// One pass over a block, in place. seal: fills the tag; else: false where the block is not what was sealed as this number.
bool pass(const key& k, std::uint64_t number, std::span<std::uint8_t> bytes, tag& t, bool seal) {
    static thread_local const std::unique_ptr<EVP_CIPHER_CTX, free_context> c(EVP_CIPHER_CTX_new());
    std::array<unsigned char, 12> nonce{};
    std::memcpy(nonce.data(), &number, sizeof number);
    int n = 0;
    bool good = EVP_CipherInit_ex(c.get(), EVP_aes_256_gcm(), nullptr, k.data(), nonce.data(), seal) == 1;
    if (!seal) good = good && EVP_CIPHER_CTX_ctrl(c.get(), EVP_CTRL_AEAD_SET_TAG, t.size(), t.data()) == 1;
    if (!bytes.empty()) good = good && EVP_CipherUpdate(c.get(), bytes.data(), &n, bytes.data(), static_cast<int>(bytes.size())) == 1;
    good = good && EVP_CipherFinal_ex(c.get(), bytes.data() + n, &n) == 1;
    if (seal) good = good && EVP_CIPHER_CTX_ctrl(c.get(), EVP_CTRL_AEAD_GET_TAG, t.size(), t.data()) == 1;
    return good;
}

void put(std::span<const std::uint8_t> bytes, const tag& t) {
    const std::uint64_t size = bytes.size();
    if (std::fwrite(&size, sizeof size, 1, stdout) != 1 || std::fwrite(t.data(), t.size(), 1, stdout) != 1 || std::fwrite(bytes.data(), 1, size, stdout) != size) give_up("the output cannot be written");
}

int seal_all(const key& k) {
    pool::member& m = my_pool(me);
    char line[64] = {};
    auto* const c = std::fgets(line, sizeof line, stdin) ? reinterpret_cast<pool::channel*>(std::strtoull(line, nullptr, 16)) : nullptr;
    auto from = must(me, pool::channel_reader::open(m, c));
    auto inst = must(me, cohort::padata::instance::create());
    auto order = must(me, cohort::padata::shell::create(*inst, {.window = 64}));
    std::uint64_t blocks = 0;
    cohort::result<void*> next;
    for (; (next = from.pop()); ++blocks) {
        auto* p = static_cast<packed*>(*next);
        auto t = std::make_shared<tag>();
        must(me, order.submit(
                     [&k, p, t, number = blocks] {
                         if (!pass(k, number, p->view(), *t, true)) give_up("the cipher failed");
                     },
                     [&m, p, t] {
                         put(p->view(), *t);
                         m.free(p);
                     }));
    }
    must(me, order.drain());
    if (next.error().code != ENODATA) must(me, std::move(next));
    tag end;
    if (!pass(k, blocks, {}, end, true)) give_up("the cipher failed");
    put({}, end);
    from.close();
    must(me, pool::channel::destroy(m, c));
    if (std::fclose(stdout) != 0) give_up("the output cannot be written");
    std::fprintf(stderr, "encrypt: %llu blocks from the other tenant's memory\n", static_cast<unsigned long long>(blocks));
    return 0;
}

int open_all(const key& k) {
    std::vector<std::uint8_t> bytes;
    for (std::uint64_t number = 0;; ++number) {
        std::uint64_t size = 0;
        tag t;
        if (std::fread(&size, sizeof size, 1, stdin) != 1 || std::fread(t.data(), t.size(), 1, stdin) != 1 || size > (1u << 30)) give_up("it is cut off");
        bytes.resize(size);
        if (std::fread(bytes.data(), 1, size, stdin) != size) give_up("it is cut off");
        if (!pass(k, number, bytes, t, false)) give_up("it is not what was encrypted with this key");
        if (size == 0) return 0;
        if (std::fwrite(bytes.data(), 1, size, stdout) != size) give_up("the output cannot be written");
    }
}

}  // namespace

int main(int argc, char** argv) {
    const bool open = argc == 3 && std::string_view(argv[1]) == "--open";
    if (argc != 2 && !open) return std::fprintf(stderr, "usage: encrypt [--open] KEYFILE\n"), 2;
    const key k = read_key(argv[argc - 1]);
    return open ? open_all(k) : seal_all(k);
}
