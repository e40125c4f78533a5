// SPDX-License-Identifier: Apache-2.0
// Drives a fuzz target where there is no libFuzzer: every file of a corpus, then random changes of them, for two seconds at most. TARGET CORPUS_DIR [TRIES [SEED]]
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void try_one(const std::string& bytes) { LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()); }

std::string changed(std::string bytes, const std::vector<std::string>& all, std::mt19937_64& any) {
    for (auto n = 1 + any() % 4; n > 0; --n) {
        const std::size_t at = bytes.empty() ? 0 : any() % bytes.size();
        switch (any() % 6) {
            case 0: bytes.insert(at, 1, static_cast<char>(any())); break;
            case 1: bytes.erase(at, 1 + any() % 8); break;
            case 2:
                if (!bytes.empty()) bytes[at] = static_cast<char>(any());
                break;
            case 3: bytes.insert(at, bytes.substr(any() % (bytes.size() + 1), any() % 32)); break;
            case 4: bytes.resize(at); break;
            default: {
                const std::string& other = all[any() % all.size()];
                bytes.replace(at, any() % 16, other.substr(any() % (other.size() + 1), any() % 64));
            }
        }
    }
    return bytes;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) return std::fprintf(stderr, "usage: %s CORPUS_DIR [TRIES [SEED]]\n", argv[0]), 2;
    std::vector<std::string> corpus{""};
    std::error_code none;
    std::vector<std::filesystem::path> files(std::filesystem::directory_iterator(argv[1], none), {});
    std::ranges::sort(files);
    for (const auto& f : files) {
        std::ifstream in(f, std::ios::binary);
        corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
    if (corpus.size() == 1) return std::fprintf(stderr, "%s: nothing is there\n", argv[1]), 5;
    for (const std::string& one : corpus) try_one(one);
    const long tries = argc > 2 ? std::atol(argv[2]) : 2000;
    const std::uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 0) : std::random_device{}();
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    std::mt19937_64 any(seed);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    long done = 0;
    for (; done < tries && std::chrono::steady_clock::now() < until; ++done) try_one(changed(corpus[any() % corpus.size()], corpus, any));
    std::printf("PASS %zu kept, %ld changed\n", corpus.size() - 1, done);
}
