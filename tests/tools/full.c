/*
 * A disk that is full, on demand: preloaded into a process, this makes what writes below one directory fail.
 *
 *   FULL_BELOW   the directory
 *   FULL_STATE   a file of four 64-bit numbers that all processes and the test share:
 *                [0] how many writes there were, [1] the first one that fails (0: none does), [2] with which errno,
 *                [3] how many failed
 *
 * Always true: what would need no space on a real disk (making a file shorter, opening one that is there, removing)
 * does not fail with ENOSPC; with EROFS all of it does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static _Atomic int64_t *state;
static char below[PATH_MAX];
static size_t length;

__attribute__((constructor)) static void begin(void) {
    const char *directory = getenv("FULL_BELOW"), *file = getenv("FULL_STATE");
    if (!directory || !file) return;
    length = strlen(directory);
    if (length >= sizeof below) return;
    memcpy(below, directory, length + 1);
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *there = mmap(NULL, 32, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (there != MAP_FAILED) state = there;
}

static int inside(const char *path) {
    return !strncmp(path, below, length) && (path[length] == '/' || !path[length]);
}

/* Whether this write fails now; errno says how. */
static int fails(void) {
    int64_t nth = atomic_fetch_add(&state[0], 1) + 1, from = state[1];
    if (!from || nth < from) return 0;
    atomic_fetch_add(&state[3], 1);
    errno = (int)state[2];
    return 1;
}

static int on_file(int fd) {
    char link[64], path[PATH_MAX];
    if (!state) return 0;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t count = readlink(link, path, sizeof path - 1);
    errno = before;
    if (count <= 0) return 0;
    path[count] = 0;
    return inside(path);
}

static int full_file(int fd) { return on_file(fd) && fails(); }

/* `path` as it is below `directory`, which is a descriptor or AT_FDCWD. */
static int at_path(int directory, const char *path) {
    char link[64], all[PATH_MAX];
    if (!state || !path) return 0;
    if (path[0] == '/') return inside(path);
    int before = errno;
    if (directory == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t count = readlink(link, all, sizeof all - 1);
    errno = before;
    if (count <= 0) return 0;
    all[count] = 0;
    return inside(all);
}

static int full_path(int directory, const char *path) { return at_path(directory, path) && fails(); }

#define REAL(type, name, ...)                                          \
    static type (*real)(__VA_ARGS__);                                  \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name);

#define ON_FILE(type, name, parameters, arguments, fd)                 \
    type name parameters {                                             \
        static type(*real) parameters;                                 \
        if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
        if (full_file(fd)) return -1;                                  \
        return real arguments;                                         \
    }

ON_FILE(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), fd)
ON_FILE(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), fd)
ON_FILE(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), fd)
ON_FILE(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), fd)
ON_FILE(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o), fd)
ON_FILE(ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t o), (fd, v, n, o), fd)
ON_FILE(int, fsync, (int fd), (fd), fd)
ON_FILE(int, fdatasync, (int fd), (fd), fd)
ON_FILE(int, fallocate, (int fd, int m, off_t o, off_t l), (fd, m, o, l), fd)
ON_FILE(int, fallocate64, (int fd, int m, off64_t o, off64_t l), (fd, m, o, l), fd)
ON_FILE(ssize_t, copy_file_range, (int i, off64_t *io, int o, off64_t *oo, size_t n, unsigned f), (i, io, o, oo, n, f), o)
ON_FILE(ssize_t, sendfile, (int o, int i, off_t *at, size_t n), (o, i, at, n), o)
ON_FILE(ssize_t, sendfile64, (int o, int i, off64_t *at, size_t n), (o, i, at, n), o)

static int shrinks(int fd, off64_t size) {
    struct stat there;
    return !fstat(fd, &there) && size <= there.st_size && (!state || state[2] != EROFS);
}

int ftruncate(int fd, off_t size) {
    REAL(int, ftruncate, int, off_t)
    if (!shrinks(fd, size) && full_file(fd)) return -1;
    return real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    REAL(int, ftruncate64, int, off64_t)
    if (!shrinks(fd, size) && full_file(fd)) return -1;
    return real(fd, size);
}

static int refuses_open(int directory, const char *path, int flags) {
    if (!at_path(directory, path)) return 0;
    int before = errno, writes = (flags & O_ACCMODE) != O_RDONLY, read_only = state[2] == EROFS;
    int is_new = (flags & O_CREAT) && faccessat(directory, path, F_OK, AT_SYMLINK_NOFOLLOW);
    errno = before;
    return (is_new || (writes && read_only)) && fails();
}

#define OPEN(name)                                                     \
    int name(const char *path, int flags, ...) {                       \
        REAL(int, name, const char *, int, ...)                        \
        va_list more;                                                  \
        va_start(more, flags);                                         \
        mode_t mode = va_arg(more, mode_t);                            \
        va_end(more);                                                  \
        if (refuses_open(AT_FDCWD, path, flags)) return -1;            \
        return real(path, flags, mode);                                \
    }

#define OPEN_AT(name)                                                  \
    int name(int directory, const char *path, int flags, ...) {        \
        REAL(int, name, int, const char *, int, ...)                   \
        va_list more;                                                  \
        va_start(more, flags);                                         \
        mode_t mode = va_arg(more, mode_t);                            \
        va_end(more);                                                  \
        if (refuses_open(directory, path, flags)) return -1;           \
        return real(directory, path, flags, mode);                     \
    }

OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t)
    if (!access(path, F_OK)) return real(path, mode);
    if (full_path(AT_FDCWD, path)) return -1;
    return real(path, mode);
}

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *)
    if (full_path(AT_FDCWD, to)) return -1;
    return real(from, to);
}

int renameat(int in, const char *from, int out, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *)
    if (full_path(out, to)) return -1;
    return real(in, from, out, to);
}

int renameat2(int in, const char *from, int out, const char *to, unsigned flags) {
    REAL(int, renameat2, int, const char *, int, const char *, unsigned)
    if (full_path(out, to)) return -1;
    return real(in, from, out, to, flags);
}

int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *)
    if (full_path(AT_FDCWD, to)) return -1;
    return real(from, to);
}

int linkat(int in, const char *from, int out, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int)
    if (full_path(out, to)) return -1;
    return real(in, from, out, to, flags);
}

int symlink(const char *to, const char *path) {
    REAL(int, symlink, const char *, const char *)
    if (full_path(AT_FDCWD, path)) return -1;
    return real(to, path);
}

int bind(int fd, const struct sockaddr *address, socklen_t size) {
    REAL(int, bind, int, const struct sockaddr *, socklen_t)
    if (address->sa_family == AF_UNIX && size > sizeof address->sa_family &&
        full_path(AT_FDCWD, ((const struct sockaddr_un *)address)->sun_path))
        return -1;
    return real(fd, address, size);
}

int unlink(const char *path) {
    REAL(int, unlink, const char *)
    if (state && state[2] == EROFS && full_path(AT_FDCWD, path)) return -1;
    return real(path);
}
