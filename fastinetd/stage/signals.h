/* What a program does with signals while its system calls are trapped (first_io).
 *
 * Theory. SIGSYS carries the traps, so the program gets it only in appearance: what it sets for SIGSYS is remembered,
 * and SIGSYS is kept out of every mask that reaches the kernel. Its other signals are really its own. The mask and the
 * alternate stack are part of the frame that the trap's handler returns to, so they are changed there; and a return
 * from one of the program's handlers is made from the program's frame, as if the trap had never been.
 *
 * Rules of this file: as of dispatch.h. These return what the system call would.
 */
#ifndef FASTINETD_STAGE_SIGNALS_H
#define FASTINETD_STAGE_SIGNALS_H

#include <asm/sigcontext.h>
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <asm/ucontext.h>

#include "system.h"

#define SIGNAL_BIT(number) (1UL << ((number) - 1))
#define IGNORED 1UL                 /* SIG_IGN; SIG_DFL is less, a handler more */
#define NEVER_BLOCKED (SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP))
#define DROPS_ITSELF 0x80000000U    /* SS_AUTODISARM */

struct trapped_call {
    long number;
    long arguments[6];
    struct ucontext *context;       /* the program's registers, mask and alternate stack */
    long result;
};

struct signal_action {              /* as rt_sigaction has it */
    unsigned long handler, flags;
    void (*restorer)(void);
    uint64_t mask;
};

static struct signal_action program_action;     /* for SIGSYS */
static uint64_t blocks_sigsys;                  /* signals whose handlers run with SIGSYS blocked */
static int sigsys_blocked;

static long set_action(const long *a)
{
    struct signal_action wanted, before;
    const int number = a[0];
    uint64_t blocks = 0;
    long result;

    if (a[3] != sizeof wanted.mask || number < 1 || number > 64)
        return -EINVAL;
    if (a[1]) {
        if (read_memory(a[1], &wanted, sizeof wanted) != sizeof wanted)
            return -EFAULT;
        wanted.mask &= ~NEVER_BLOCKED;
        blocks = wanted.mask & SIGNAL_BIT(SIGSYS) ? SIGNAL_BIT(number) : 0;
    }
    if (number == SIGSYS) {
        before = program_action;
        if (a[1])
            program_action = wanted;
    } else {
        if (a[1])
            wanted.mask &= ~SIGNAL_BIT(SIGSYS);
        result = CALL(__NR_rt_sigaction, number, a[1] ? &wanted : NULL, &before, sizeof wanted.mask);
        if (result < 0)
            return result;
        if (blocks_sigsys & SIGNAL_BIT(number))
            before.mask |= SIGNAL_BIT(SIGSYS);
        if (a[1])
            blocks_sigsys = (blocks_sigsys & ~SIGNAL_BIT(number)) | blocks;
    }
    return !a[2] || write_memory(a[2], &before, sizeof before) == sizeof before ? 0 : -EFAULT;
}

static long set_mask(const long *a, struct ucontext *context)
{
    uint64_t before = context->uc_sigmask | (sigsys_blocked ? SIGNAL_BIT(SIGSYS) : 0), mask = before, given;

    if (a[3] != sizeof given)
        return -EINVAL;
    if (a[1]) {
        if (read_memory(a[1], &given, sizeof given) != sizeof given)
            return -EFAULT;
        if (a[0] == SIG_BLOCK)
            mask |= given;
        else if (a[0] == SIG_UNBLOCK)
            mask &= ~given;
        else if (a[0] == SIG_SETMASK)
            mask = given;
        else
            return -EINVAL;
        mask &= ~NEVER_BLOCKED;
        sigsys_blocked = (mask & SIGNAL_BIT(SIGSYS)) != 0;
        context->uc_sigmask = mask & ~SIGNAL_BIT(SIGSYS);
    }
    return !a[2] || write_memory(a[2], &before, sizeof before) == sizeof before ? 0 : -EFAULT;
}

static long set_stack(const long *a, struct ucontext *context)
{
    long result;

    if (context->uc_stack.ss_flags & DROPS_ITSELF)      /* the trap dropped it */
        CALL(__NR_sigaltstack, &context->uc_stack, 0);
    result = CALL(__NR_sigaltstack, a[0], a[1]);
    if (result == 0 && a[0])
        CALL(__NR_sigaltstack, 0, &context->uc_stack);
    return result;
}

static void __attribute__((noreturn)) return_from_handler(struct ucontext *context)
{
    struct ucontext *frame = (struct ucontext *)context->uc_mcontext.rsp;
    frame->uc_sigmask &= ~SIGNAL_BIT(SIGSYS);
    stage_sigreturn(context->uc_mcontext.rsp);
}

#endif
