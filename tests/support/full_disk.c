/* Preloaded into a process: a disk that is full from a certain change on, below one folder.

   Every creation, write, growth and rename below the folder is counted. The first one that finds no room fails with
   ENOSPC, and so do all later ones, as if nothing were ever freed; of a write half is still written, as a disk does that has
   room for half. Nothing waits for a real disk: syncs do nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static char folder[PATH_MAX];
static long room = -1, seen = 0;

/* The next `changes` succeed, all of them for -1. */
void full_disk_begin(const char *path, long changes) {
    seen = 0;
    room = changes;
    snprintf(folder, sizeof folder, "%s", path);
}

/* There is room again; how many changes were tried. */
long full_disk_end(void) {
    folder[0] = 0;
    return seen;
}

static int is_below(const char *path) {
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int is_ours(int file) {
    char link[64], path[PATH_MAX];
    if (!folder[0])
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_below(path);
}

static int fits(void) {
    long number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (room < 0 || number <= room)
        return 1;
    errno = ENOSPC;
    return 0;
}

static size_t half(size_t size) { return seen == room + 1 ? size / 2 : 0; }

ssize_t write(int file, const void *data, size_t size) {
    if (!is_ours(file) || fits())
        return REAL(write)(file, data, size);
    return half(size) ? REAL(write)(file, data, half(size)) : -1;
}

ssize_t pwrite(int file, const void *data, size_t size, off_t place) {
    if (!is_ours(file) || fits())
        return REAL(pwrite)(file, data, size, place);
    return half(size) ? REAL(pwrite)(file, data, half(size), place) : -1;
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t place) {
    if (!is_ours(file) || fits())
        return REAL(pwrite64)(file, data, size, place);
    return half(size) ? REAL(pwrite64)(file, data, half(size), place) : -1;
}

static int grows(int file, long long size) {
    struct stat found;
    return is_ours(file) && !fstat(file, &found) && size > found.st_size;
}

int ftruncate(int file, off_t size) { return !grows(file, size) || fits() ? REAL(ftruncate)(file, size) : -1; }

int ftruncate64(int file, off64_t size) { return !grows(file, size) || fits() ? REAL(ftruncate64)(file, size) : -1; }

static int is_new(const char *path) {
    struct stat found;
    return folder[0] && is_below(path) && lstat(path, &found);
}

static int makes(const char *path, int flags) { return (flags & O_CREAT) && is_new(path); }

#define MODE(flags, mode)                       \
    mode_t mode = 0;                            \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) { \
        va_list more;                           \
        va_start(more, flags);                  \
        mode = va_arg(more, mode_t);            \
        va_end(more);                           \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return !makes(path, flags) || fits() ? REAL(open)(path, flags, mode) : -1;
}

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return !makes(path, flags) || fits() ? REAL(open64)(path, flags, mode) : -1;
}

int mkdir(const char *path, mode_t mode) {
    return !is_new(path) || fits() ? REAL(mkdir)(path, mode) : -1;
}

int rename(const char *from, const char *to) {
    return !folder[0] || !is_below(to) || fits() ? REAL(rename)(from, to) : -1;
}

int fsync(int file) { return file < 0 ? -1 : 0; }

int fdatasync(int file) { return file < 0 ? -1 : 0; }
