/* System calls without a C library: the preloaded library must run in glibc's and in musl's programs alike.
 *
 * Theory. Every system call of the library is made between stage_calls_begin and stage_calls_end, a few instructions of
 * assembly. Syscall user dispatch (_stage_dispatch.h) leaves this range alone and stops everything else.
 *
 * Rules of this file: no state; nothing here may call anything but stage_call. Memory whose address the program gave is
 * read and written with read_memory and write_memory, which fail where a plain access would end the process.
 */
#ifndef FASTINETD_STAGE_SYSTEM_H
#define FASTINETD_STAGE_SYSTEM_H

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <stddef.h>
#include <stdint.h>

extern const char stage_calls_begin[] __attribute__((visibility("hidden")));
extern const char stage_calls_end[] __attribute__((visibility("hidden")));
extern long stage_call(long number, long a, long b, long c, long d, long e, long f)
    __attribute__((visibility("hidden")));

#if defined(__x86_64__)
extern void stage_restorer(void) __attribute__((visibility("hidden")));
extern void stage_sigreturn(unsigned long stack) __attribute__((visibility("hidden"), noreturn));

__asm__(
    ".text\n"
    ".balign 64\n"
    ".globl stage_calls_begin, stage_calls_end, stage_call, stage_restorer, stage_sigreturn\n"
    ".hidden stage_calls_begin, stage_calls_end, stage_call, stage_restorer, stage_sigreturn\n"
    ".type stage_call, @function\n"
    "stage_calls_begin:\n"
    "stage_call:\n"
    "    mov %rdi, %rax\n"
    "    mov %rsi, %rdi\n"
    "    mov %rdx, %rsi\n"
    "    mov %rcx, %rdx\n"
    "    mov %r8, %r10\n"
    "    mov %r9, %r8\n"
    "    mov 8(%rsp), %r9\n"
    "    syscall\n"
    "    ret\n"
    "stage_sigreturn:\n"            /* returns from a handler of the program, whose frame is at rdi */
    "    mov %rdi, %rsp\n"
    "stage_restorer:\n"
    "    mov $15, %eax\n"           /* rt_sigreturn */
    "    syscall\n"
    "    ud2\n"
    "stage_calls_end:\n"
);
#elif defined(__aarch64__)
__asm__(
    ".text\n"
    ".balign 64\n"
    ".globl stage_calls_begin, stage_calls_end, stage_call\n"
    ".hidden stage_calls_begin, stage_calls_end, stage_call\n"
    ".type stage_call, @function\n"
    "stage_calls_begin:\n"
    "stage_call:\n"
    "    mov x8, x0\n"
    "    mov x0, x1\n"
    "    mov x1, x2\n"
    "    mov x2, x3\n"
    "    mov x3, x4\n"
    "    mov x4, x5\n"
    "    mov x5, x6\n"
    "    svc #0\n"
    "    ret\n"
    "stage_calls_end:\n"
);
#else
#error "the held program's library knows x86-64 and aarch64 only"
#endif

#define CALL_6(n, a, b, c, d, e, f, ...) \
    stage_call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define CALL(...) CALL_6(__VA_ARGS__, 0, 0, 0, 0, 0, 0)     /* number, then up to six arguments */

struct stage_piece {
    void *at;
    size_t size;
};

/* Between this process's memory at `address`, which may be anything, and ours. Returns the bytes that could be had, at
 * most `size`; page by page, for the kernel may leave out a whole piece of which only the end is missing. */
static size_t copy_memory(long number, unsigned long address, void *ours, size_t size)
{
    const long self = CALL(__NR_getpid);
    size_t done = 0;
    while (done < size) {
        size_t part = 4096 - ((address + done) & 4095);
        if (part > size - done)
            part = size - done;
        struct stage_piece local = {(char *)ours + done, part}, remote = {(void *)(address + done), part};
        if (CALL(number, self, &local, 1, &remote, 1, 0) != (long)part)
            break;
        done += part;
    }
    return done;
}

static inline size_t read_memory(unsigned long address, void *into, size_t size)
{
    return copy_memory(__NR_process_vm_readv, address, into, size);
}

static inline size_t write_memory(unsigned long address, void *from, size_t size)
{
    return copy_memory(__NR_process_vm_writev, address, from, size);
}

static inline size_t length_of(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

static inline int starts_with(const char *text, const char *start)
{
    while (*start)
        if (*text++ != *start++)
            return 0;
    return 1;
}

static inline void clear(char *at, size_t size)
{
    while (size--)
        *at++ = 0;
}

#endif
