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
#include <fcntl.h>
#include <stdlib.h>

#include "guest.h"

enum { max_words = 64, line_bytes = 8192 };

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
    block_chld(&chld);
    mount_all();
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
    power_off();
    return 1;
}
