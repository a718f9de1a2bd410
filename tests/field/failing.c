/* What file systems and other programs do, for the tests of machines.rs: calls fail as the words of WORDMILL_TEST_FAIL say. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int asked(const char *word) {
    const char *words = getenv("WORDMILL_TEST_FAIL");
    return words && strstr(words, word);
}

static int fail(int error) {
    errno = error;
    return -1;
}

/* Locks that the file system has not. */
int flock(int fd, int operation) {
    (void)fd, (void)operation;
    if (asked("flock=ENOSYS")) return fail(ENOSYS);
    if (asked("flock=ENOLCK")) return fail(ENOLCK);
    if (asked("flock=EOPNOTSUPP")) return fail(EOPNOTSUPP);
    if (asked("flock=EIO")) return fail(EIO);
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(fd, operation);
}

/* NFS: a removed file that is held open gets another name, which cannot be removed. */
int unlink(const char *path) {
    int (*real)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");
    const char *name = strrchr(path, '/');
    if (asked("held") && name && strstr(path, "step-")) {
        if (!strncmp(name, "/.nfs", 5)) return fail(EBUSY);
        if (!strcmp(name, "/model.safetensors")) {
            char to[4096];
            snprintf(to, sizeof to, "%.*s/.nfs00000000deadbeef", (int)(name - path), path);
            return rename(path, to);
        }
    }
    return real(path);
}

int fsync(int fd) {
    struct stat found;
    if (asked("fsync=no")) return 0; /* a disk that is very fast */
    if (!fstat(fd, &found)) {
        if (asked("fsync-directory=EINVAL") && S_ISDIR(found.st_mode)) return fail(EINVAL);
        if (asked("fsync-file=EIO") && S_ISREG(found.st_mode)) return fail(EIO);
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

/* A run saves step 3 and removes step 2 just when a reader has seen that there is step 2 and opens it. */
int open64(const char *path, int flags, ...) {
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    if (asked("removed") && !strcmp(path, "m/step-000000000002/manifest.sha256")) {
        rename("m/step-000000000002", "m/.partial-step-000000000002");
        rename("next", "m/step-000000000003");
    }
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    return real(path, flags, mode);
}

/* FUSE: a file system that does not know its size. */
int statvfs64(const char *path, struct statvfs64 *out) {
    int done = ((int (*)(const char *, struct statvfs64 *))dlsym(RTLD_NEXT, "statvfs64"))(path, out);
    if (!done && asked("statvfs=0")) out->f_blocks = out->f_bfree = out->f_bavail = 0;
    if (!done && asked("statvfs=full")) out->f_bfree = out->f_bavail = 0;
    return done;
}

/* Another program cuts a file short, or writes it anew, when it has just been mapped. */
static void *mapped(void *map, int fd) {
    char link[64], path[4096];
    if (map == MAP_FAILED || fd < 0 || !(asked("cut") || asked("anew"))) return map;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return map;
    path[length] = 0;
    if (strstr(path, "changing")) {
        struct stat found;
        if (asked("cut")) {
            if (fstat(fd, &found) || truncate(path, found.st_size / 3)) abort();
        } else {
            int other = open(path, O_WRONLY);
            if (other < 0 || pwrite(other, "xx xx\n", 6, 0) != 6 || close(other)) abort();
        }
    }
    return map;
}

void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off64_t from) {
    void *(*real)(void *, size_t, int, int, int, off64_t);
    *(void **)&real = dlsym(RTLD_NEXT, "mmap64");
    return mapped(real(at, bytes, protection, flags, fd, from), fd);
}
