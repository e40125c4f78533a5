/* SPDX-License-Identifier: Apache-2.0
 * The first process of a guest: mounts what programs expect, runs those that /guest.list names, tells the console how each ended, powers off.
 *
 * A line of /guest.list:   NAME SECONDS [VARIABLE=VALUE]... /PROGRAM [ARGUMENT]...      (words; no quoting)
 * On the console, beside what the programs print, lines that begin with "@@":
 *     @@begin NAME
 *     @@end NAME exit 0 | signal 11 | timeout | lost REASON
 *     @@report NAME LINE        for each line of /results/NAME.json, where the program left one
 *     @@done                    every line of the list was taken
 * What a program leaves running is killed before the next one begins. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { max_words = 64, line_bytes = 8192 };

static void mount_at(const char* type, const char* where) {
    mkdir(where, 0755);
    if (mount(type, where, type, 0, NULL) != 0) printf("@@note mount %s at %s: %s\n", type, where, strerror(errno));
}

static void child(char** words, int fd) {
    if (setsid() < 0 || dup2(fd, 0) < 0) _exit(126);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (; *words && **words != '/'; ++words) putenv(*words);
    if (*words) execv(*words, words);
    printf("@@note exec %s: %s\n", *words ? *words : "(no program)", strerror(errno));
    _exit(127);
}

/* Waits for `pid`, and reaps whatever else ends. Returns 0 when the time is over first. */
static int wait_until(pid_t pid, int seconds, int* status) {
    struct timespec now, end;
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += seconds;
    for (;;) {
        int one;
        pid_t who;
        while ((who = waitpid(-1, &one, WNOHANG)) > 0) {
            if (who == pid) {
                *status = one;
                return 1;
            }
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec >= end.tv_sec) return 0;
        struct timespec left = {end.tv_sec - now.tv_sec, 0};
        sigtimedwait(&chld, NULL, &left); /* SIGCHLD is blocked, so that none is lost between waitpid and here */
    }
}

static void send_report(const char* name) {
    char path[256], line[line_bytes];
    snprintf(path, sizeof path, "/results/%s.json", name);
    FILE* f = fopen(path, "r");
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        size_t n = strlen(line);
        printf("@@report %s %s%s", name, line, n && line[n - 1] == '\n' ? "" : "\n");
    }
    fclose(f);
}

static void run(char** words) {
    const char* name = words[0];
    int status = 0, null = open("/dev/null", O_RDWR);
    printf("@@begin %s\n", name);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) child(words + 2, null);
    close(null);
    if (pid < 0) {
        printf("@@end %s lost fork: %s\n", name, strerror(errno));
        return;
    }
    int ended = wait_until(pid, atoi(words[1]), &status);
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {}
    if (!ended)
        printf("\n@@end %s timeout\n", name);
    else if (WIFSIGNALED(status))
        printf("\n@@end %s signal %d\n", name, WTERMSIG(status));
    else
        printf("\n@@end %s exit %d\n", name, WEXITSTATUS(status));
    send_report(name);
}

int main(void) {
    static char text[line_bytes];
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    mount_at("devtmpfs", "/dev");
    mount_at("proc", "/proc");
    mount_at("sysfs", "/sys");
    mount_at("cgroup2", "/sys/fs/cgroup");
    mkdir("/tmp", 01777); /* in the root file system, which is memory too: a build under /tmp is not hidden */
    mount_at("tmpfs", "/dev/shm");
    mkdir("/results", 0755);
    putenv("PATH=/bin:/usr/bin");
    putenv("HOME=/tmp");
    FILE* list = fopen("/guest.list", "r");
    while (list && fgets(text, sizeof text, list)) {
        char *words[max_words] = {NULL}, *rest = text;
        int n = 0;
        while (n < max_words - 1 && (words[n] = strtok_r(rest, " \n", &rest))) ++n;
        if (n >= 3) run(words);
    }
    puts("@@done");
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
