/* A clock on the wall that a test can set while the program runs.
 *
 * Preloaded (LD_PRELOAD), it adds what the file named by WINDLASS_TEST_CLOCK holds, nanoseconds as a 64-bit
 * number, to every reading of CLOCK_REALTIME through the C library, and takes it from the time of every
 * timerfd of that clock. When the number changes, such timers are set anew, and those that want to be told
 * (TFD_TIMER_CANCEL_ON_SET) become ready, as the kernel does it.
 *
 * timerfd_settime(2) may be called without the C library, so a seccomp filter traps it. Children inherit the
 * filter and not necessarily this library: one that sets a timerfd without it is killed by SIGSYS. Shells, git
 * and compilers do not.
 *
 * What it cannot do: the times of files are the true ones; so is the clock of processes that were started
 * without it; CLOCK_REALTIME_COARSE is true where it is read through the vDSO without the C library; whoever
 * reads a cancelled timer gets its count and not ECANCELED. A jump is seen within a few milliseconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define SECOND 1000000000LL
/* In an argument that the system call does not have: it is ours, and passes. */
#define OURS 0x57494e44
#define FDS 4096

static volatile int64_t none, *set = &none;

/* What each timer was set to, by the clock as the program sees it. */
static struct {
    int kind; /* 0: none of ours; 1: at a time; 2: also when the clock is set */
    int64_t at;
} timers[FDS];

static int64_t of(struct timespec t) { return t.tv_sec * SECOND + t.tv_nsec; }

static struct timespec to(int64_t n) {
    struct timespec t = {n / SECOND, n % SECOND};
    if (t.tv_nsec < 0) t.tv_sec--, t.tv_nsec += SECOND;
    return t;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) *now = to(of(*now) + *set);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    now->tv_sec = t.tv_sec, now->tv_usec = t.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (seconds) *seconds = t.tv_sec;
    return t.tv_sec;
}

static int arm(int fd, int flags, const struct itimerspec *new, struct itimerspec *old) {
    return syscall(SYS_timerfd_settime, fd, flags, new, old, 0, OURS);
}

/* The timer as the kernel has to be told it. One that is due lies in the past, and is not zero. */
static int arm_at(int fd, int64_t at) {
    int64_t there = at - *set;
    struct itimerspec when = {{0, 0}, to(there > 0 ? there : 1)};
    return arm(fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static int is_of_the_wall(int fd) {
    char path[64] = "/proc/self/fdinfo/", text[512], digits[16];
    int n = 0;
    for (int rest = fd; rest || !n; rest /= 10) digits[n++] = '0' + rest % 10;
    for (size_t end = strlen(path); n; end++) path[end] = digits[--n], path[end + 1] = 0;
    int info = open(path, O_RDONLY | O_CLOEXEC);
    if (info < 0) return 0;
    ssize_t length = read(info, text, sizeof text - 1);
    close(info);
    text[length < 0 ? 0 : length] = 0;
    return strstr(text, "clockid: 0\n") != NULL;
}

static int settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old) {
    int ours = fd >= 0 && fd < FDS;
    if (ours) timers[fd].kind = 0;
    if (!ours || !(flags & TFD_TIMER_ABSTIME) || !is_of_the_wall(fd) || !of(new->it_value))
        return arm(fd, flags, new, old);
    timers[fd].at = of(new->it_value);
    timers[fd].kind = flags & TFD_TIMER_CANCEL_ON_SET ? 2 : 1;
    if (old) memset(old, 0, sizeof *old);
    return arm_at(fd, timers[fd].at);
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old) {
    return settime(fd, flags, new, old);
}

static void trapped(int signal, siginfo_t *info, void *context) {
    (void)signal;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (info->si_syscall != SYS_timerfd_settime) return;
    int before = errno;
    int failed = settime(r[REG_RDI], r[REG_RSI], (void *)r[REG_RDX], (void *)r[REG_R10]);
    r[REG_RAX] = failed ? -errno : 0;
    errno = before;
}

static void *watch(void *unused) {
    (void)unused;
    for (int64_t before = *set;; before = *set) {
        struct timespec beat = {0, 5000000};
        while (*set == before) syscall(SYS_nanosleep, &beat, NULL);
        for (int fd = 0; fd < FDS; fd++) {
            int kind = timers[fd].kind;
            if (!kind || !is_of_the_wall(fd)) continue;
            arm_at(fd, kind == 2 ? INT64_MIN / 2 : timers[fd].at);
        }
    }
    return NULL;
}

static void trap(void) {
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaction(SIGSYS, &action, NULL);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_timerfd_settime, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OURS, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) _exit(97);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WINDLASS_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *there = mmap(NULL, sizeof *set, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (there == MAP_FAILED) _exit(98);
    set = there;
    trap();
    pthread_t watcher;
    if (pthread_create(&watcher, NULL, watch, NULL)) _exit(99);
}
