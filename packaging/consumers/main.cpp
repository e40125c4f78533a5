// SPDX-License-Identifier: Apache-2.0
// Squares in parallel, printed in order: what a first program with Cohort looks like.
#include <cstdio>
#include <vector>

#include <cohort/padata/instance.hpp>
#include <cohort/padata/shell.hpp>

int main() {
    auto inst = cohort::padata::instance::create({.name = "squares"});
    if (!inst) return std::fprintf(stderr, "%s\n", inst.error().line().c_str()), 5;
    std::vector<long> squares(1000);
    std::size_t next = 0;
    bool in_order = true;
    {
        auto stream = cohort::padata::shell::create(**inst);
        if (!stream) return std::fprintf(stderr, "%s\n", stream.error().line().c_str()), 5;
        for (std::size_t i = 0; i < squares.size(); ++i) {
            auto done = stream->submit([&squares, i] { squares[i] = static_cast<long>(i * i); },
                                       [&, i] { in_order = in_order && next++ == i && squares[i] == static_cast<long>(i * i); });
            if (!done) return std::fprintf(stderr, "%s\n", done.error().line().c_str()), 5;
        }
        if (auto end = stream->drain(); !end) return std::fprintf(stderr, "%s\n", end.error().line().c_str()), 5;
    }
    std::printf("%zu squares, %s\n", next, in_order ? "in order" : "OUT OF ORDER");
    return in_order && next == squares.size() ? 0 : 1;
}
