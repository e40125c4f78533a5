/* SPDX-License-Identifier: Apache-2.0
 * What every first process of a guest does: mount what programs expect, wait for one child while reaping all, power off. */
#pragma once
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline void mount_at(const char* type, const char* where) {
    mkdir(where, 0755);
    if (mount(type, where, type, 0, NULL) != 0) printf("@@note mount %s at %s: %s\n", type, where, strerror(errno));
}

static inline void mount_all(void) {
    mount_at("devtmpfs", "/dev");
    mount_at("proc", "/proc");
    mount_at("sysfs", "/sys");
    mount_at("cgroup2", "/sys/fs/cgroup");
    mkdir("/tmp", 01777); /* in the root file system, which is memory too: a build under /tmp is not hidden */
    mount_at("tmpfs", "/dev/shm");
}

/* SIGCHLD blocked: none is lost between waitpid and sigtimedwait. */
static inline void block_chld(sigset_t* chld) {
    sigemptyset(chld);
    sigaddset(chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, chld, NULL);
}

/* Waits for `pid`, and reaps whatever else ends. seconds: 0 waits for ever. Returns 0 when the time is over first. SIGCHLD is blocked. */
static inline int wait_until(pid_t pid, int seconds, int* status) {
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
        if (seconds && now.tv_sec >= end.tv_sec) return 0;
        struct timespec left = {seconds ? end.tv_sec - now.tv_sec : 60, 0};
        sigtimedwait(&chld, NULL, &left);
    }
}

static inline void power_off(void) {
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
}
