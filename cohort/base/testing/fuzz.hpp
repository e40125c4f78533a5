// SPDX-License-Identifier: Apache-2.0
/// For fuzz targets: a file NAME_fuzz.cpp beside what it tries. A claim that does not hold ends the program.
///
///     FUZZ(text) {                                          // std::string_view: the bytes of one try
///         const auto a = parse(text);
///         if (a) CLAIM(parse(print(*a)) == a);
///     }
///
/// With COHORT_FUZZ (preset fuzz) libFuzzer drives it; else a program that repeats the kept corpus and tries random changes of it, as a part of the tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#define FUZZ(text)                                                                            \
    static void cohort_fuzz_one(std::string_view text);                                       \
    extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {       \
        cohort_fuzz_one({reinterpret_cast<const char*>(data), size});                         \
        return 0;                                                                             \
    }                                                                                         \
    static void cohort_fuzz_one([[maybe_unused]] std::string_view text)

#define CLAIM(holds)                                                             \
    do {                                                                         \
        if (!(holds)) {                                                          \
            std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #holds); \
            std::abort();                                                        \
        }                                                                        \
    } while (0)

namespace cohort::testing {

/// Numbers out of the bytes of a try: 0 when they are used up.
class draws {
public:
    explicit draws(std::string_view bytes) : left_(bytes) {}
    explicit operator bool() const { return !left_.empty(); }
    /// 0 .. below - 1; below > 0.
    std::uint32_t below(std::uint32_t limit) {
        std::uint32_t n = 0;
        for (int i = 0; i < (limit > 256 ? 2 : 1) && !left_.empty(); ++i) {
            n = n << 8 | static_cast<std::uint8_t>(left_.front());
            left_.remove_prefix(1);
        }
        return n % limit;
    }

private:
    std::string_view left_;
};

}  // namespace cohort::testing
