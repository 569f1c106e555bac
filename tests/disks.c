/*
 * A disk that fails on command, for LD_PRELOAD.
 *
 * FAULTY_DISK names a folder. While it holds a file "sync", fsync and fdatasync fail with EIO;
 * while it holds "full", pwrite fails with ENOSPC; both only for files whose name ends in
 * FAULTY_FILES.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int fails(const char *how, int fd) {
    const char *folder = getenv("FAULTY_DISK"), *suffix = getenv("FAULTY_FILES");
    char path[4096], link[64];
    ssize_t length;
    size_t wanted;
    if (!folder || !suffix) return 0;
    snprintf(path, sizeof path, "%s/%s", folder, how);
    if (access(path, F_OK)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    wanted = strlen(suffix);
    return (size_t)length >= wanted && !strcmp(path + length - wanted, suffix);
}

static int error(int number) { errno = number; return -1; }

int fsync(int fd) { return fails("sync", fd) ? error(EIO) : REAL(fsync)(fd); }

int fdatasync(int fd) { return fails("sync", fd) ? error(EIO) : REAL(fdatasync)(fd); }

ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
    return fails("full", fd) ? error(ENOSPC) : REAL(pwrite)(fd, from, count, at);
}

ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
    return fails("full", fd) ? error(ENOSPC) : REAL(pwrite64)(fd, from, count, at);
}
