/* Steps that no shell can write. The first argument says which. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void deaf(void) {
    for (int number = 1; number < NSIG; number++) signal(number, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
}

static void up(void) {
    puts("up");
    fflush(stdout);
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    deaf();
    if (!strcmp(what, "traced")) {
        /* Its child waits for it as a debugger's does, for ever. */
        pid_t child = fork();
        if (child == 0) {
            ptrace(PTRACE_TRACEME, 0, 0, 0);
            raise(SIGSTOP);
            _exit(0);
        }
        int status;
        waitpid(child, &status, WUNTRACED);
        up();
        for (;;) pause();
    }
    if (!strcmp(what, "zombie")) {
        /* Its child has ended and is never asked how. */
        pid_t child = fork();
        if (child == 0) _exit(0);
        siginfo_t info;
        waitid(P_PID, child, &info, WEXITED | WNOWAIT);
        up();
        for (;;) pause();
    }
    if (!strcmp(what, "walker")) {
        /* Forks and is gone, in a new session each time; for some seconds at most. */
        time_t end = time(NULL) + 8;
        if (fork() > 0) for (;;) pause();
        up();
        while (time(NULL) < end) {
            pid_t next = fork();
            if (next > 0) _exit(0);
            if (next == 0) setsid();
        }
    }
    return 1;
}
