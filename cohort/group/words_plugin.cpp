// SPDX-License-Identifier: Apache-2.0
/// A flow's function for tests: each word of a record in its own line, in capitals, changed where it lies. A record that holds "fault" fails; one that holds "kill" ends the process.
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <cohort/stream/flow_function.h>

extern "C" int cohort_flow(void* record, size_t length, cohort_flow_emit emit, void* to) {
    char* text = static_cast<char*>(record);
    if (::memmem(text, length, "fault", 5)) return EBADMSG;
    if (::memmem(text, length, "kill", 4)) std::raise(SIGKILL);
    for (size_t i = 0; i < length; ++i) text[i] = text[i] == ' ' ? '\n' : static_cast<char>(std::toupper(static_cast<unsigned char>(text[i])));
    // Twice: more comes out than a record may keep.
    for (int i = 0; i < 2; ++i) {
        if (const int e = emit(to, text, length)) return e;
    }
    return 0;
}
