/* SPDX-License-Identifier: Apache-2.0
 * The first process of a lab guest: runs one program and powers off. /run.args holds the program and its arguments, each ended by a
 * zero byte; /run.env VARIABLE=VALUE likewise; /run.stdin is its standard input. Ports of the virtio console, by name:
 *     out, err    the program's standard output and error, byte for byte
 *     end         how it ended, one line: "exit 0", "signal 11", "lost REASON"
 * The kernel's own messages go to the serial console. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>

#include "guest.h"

enum { max_words = 4096 };

/* The device of the port with this name, or -1. */
static int open_port(const char* name) {
    DIR* all = opendir("/sys/class/virtio-ports");
    int fd = -1;
    for (struct dirent* e; all && fd < 0 && (e = readdir(all));) {
        char path[512], text[64] = "";
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", e->d_name);
        int at = open(path, O_RDONLY | O_CLOEXEC);
        if (at < 0) continue;
        ssize_t n = read(at, text, sizeof text - 1);
        close(at);
        if (n > 0 && text[n - 1] == '\n') text[n - 1] = 0;
        if (strcmp(text, name) != 0) continue;
        snprintf(path, sizeof path, "/dev/%s", e->d_name);
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    if (all) closedir(all);
    return fd;
}

/* The zero-ended words of a file; the list ends with NULL. */
static char** words_of(const char* path) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC), n = 0;
    char** words = calloc(max_words + 1, sizeof *words);
    if (fd < 0 || fstat(fd, &st) != 0) return words;
    char* text = calloc(1, (size_t)st.st_size + 1);
    ssize_t size = read(fd, text, (size_t)st.st_size);
    for (char* at = text; at < text + size && n < max_words; at += strlen(at) + 1) words[n++] = at;
    close(fd);
    return words;
}

static void child(char** args, char** environment, int in, int out, int err) {
    sigset_t none;
    sigemptyset(&none);
    if (setsid() < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(126);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(args[0], args, environment);
    dprintf(2, "lab: exec %s: %s\n", args[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

int main(void) {
    sigset_t chld;
    block_chld(&chld);
    mount_all();
    mount_at("debugfs", "/sys/kernel/debug");
    int out = open_port("out"), err = open_port("err"), end = open_port("end");
    int in = open("/run.stdin", O_RDONLY | O_CLOEXEC), status = 0;
    char** args = words_of("/run.args");
    if (out < 0 || err < 0 || end < 0 || !args[0]) {
        printf("@@note the ports or the program's name are missing\n");
        power_off();
    }
    pid_t pid = fork();
    if (pid == 0) child(args, words_of("/run.env"), in < 0 ? open("/dev/null", O_RDONLY) : in, out, err);
    if (pid < 0) {
        dprintf(end, "lost fork: %s\n", strerror(errno));
    } else {
        wait_until(pid, 0, &status);
        if (WIFSIGNALED(status))
            dprintf(end, "signal %d\n", WTERMSIG(status));
        else
            dprintf(end, "exit %d\n", WEXITSTATUS(status));
    }
    power_off();
    return 1;
}
