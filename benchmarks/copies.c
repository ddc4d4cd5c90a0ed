/* Counts the bytes that a process copies in pieces of at least COPIES_FROM bytes, by memcpy or memmove.

   cc -O2 -shared -fPIC -o copies.so copies.c -ldl; LD_PRELOAD=copies.so COPIES_FILE=… COPIES_FROM=65536 COMMAND

   COPIES_FILE is 16 bytes: how many such copies, and how many bytes. Anybody may read it meanwhile, or set it to 0. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

typedef void *copy(void *, const void *, size_t);
static uint64_t own[2], *counted = own;
static size_t from = SIZE_MAX;
static copy *move;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("COPIES_FILE"), *least = getenv("COPIES_FROM");
    move = (copy *)dlsym(RTLD_NEXT, "memmove");
    if (file == NULL || least == NULL) return;
    int fd = open(file, O_RDWR);
    if (fd < 0) return;
    void *map = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) return;
    counted = map;
    from = strtoul(least, NULL, 10);
}

static void *counting(void *to, const void *source, size_t size) {
    if (size >= from) {
        __atomic_fetch_add(&counted[0], 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&counted[1], size, __ATOMIC_RELAXED);
    }
    if (move != NULL) return move(to, source, size);
    for (volatile size_t i = 0; i < size; i++) ((char *)to)[i] = ((const char *)source)[i]; /* the loader itself */
    return to;
}

void *memcpy(void *to, const void *source, size_t size) { return counting(to, source, size); }
void *memmove(void *to, const void *source, size_t size) { return counting(to, source, size); }
void *__memcpy_chk(void *to, const void *source, size_t size, size_t room) {
    if (size > room) abort();
    return counting(to, source, size);
}
