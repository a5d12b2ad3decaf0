"""Questions to the doorman: clients whose names decide wait here until it answers, or until it has not in time.

Theory. A question has a place and a cookie. The cookie's low bits are the place; the others are of this process and its
turn, so that an answer to a question of before, or of another process, is none to a later one. A doorman that died may
have taken questions along: those that are open are asked again with the same cookie, and who has no answer by the
deadline gets none.

Rules of this file
 - Nothing here waits, and nothing is decided: the reception decides what becomes of a client.
 - A client's connection and payment belong to its question while that is open, and to whoever takes it out.
"""

from libc.string cimport memcpy, memset

from fastinetd.core.client cimport Client
from fastinetd.system.linux cimport (
    AF_INET, EBADMSG, FIRST_KEPT_DESCRIPTOR, F_DUPFD_CLOEXEC, MSG_DONTWAIT, MSG_NOSIGNAL, SECOND, close, fcntl,
    i64, now_monotonic, send, u16, u32, u64, u8,
)
from fastinetd.system.strangers cimport receive_words

from fastinetd.doorman import protocol

# The doorman's numbers, in the types they are used in here.
cdef u64 ANSWER_WITHIN = protocol.ANSWER_WITHIN * SECOND
cdef u64 ASK_AGAIN = protocol.ASK_AGAIN * SECOND
cdef u16 IPV4 = protocol.Family.IPV4
cdef u16 IPV6 = protocol.Family.IPV6
cdef u32 ALLOW = protocol.Reply.ALLOW

cdef packed struct QuestionMessage:
    u64 cookie
    u32 row
    u16 family
    u16 reserved
    u8 address[16]

cdef packed struct AnswerMessage:
    u64 cookie
    u32 reply


cdef compare_layout():
    """Raise ImportError unless the two messages have the bytes that doorman/protocol.py gives them."""
    cdef QuestionMessage question
    cdef AnswerMessage answer
    address = bytes(range(24, 40))
    question.cookie, question.row, question.family, question.reserved = 0x0807060504030201, 0x14131211, 0x1615, 0x1817
    memcpy(question.address, <const char *> address, sizeof(question.address))
    answer.cookie, answer.reply = question.cookie, question.row
    for name, layout, here, fields in (
        ("QUESTION", protocol.QUESTION, (<const char *> &question)[:sizeof(question)],
         (question.cookie, question.row, question.family, question.reserved, address)),
        ("ANSWER", protocol.ANSWER, (<const char *> &answer)[:sizeof(answer)], (answer.cookie, answer.reply)),
    ):
        if layout.size != len(here) or layout.unpack(here) != fields:
            raise ImportError(f"core/questions.pyx does not lay {name} out as doorman/protocol.py does")


compare_layout()


cdef void open_questions(Questions *questions, int doorman) noexcept nogil:
    """Begin with no question open; `doorman` is the socket to the doorman, borrowed, or -1."""
    cdef u32 place
    questions.doorman, questions.open = doorman, 0
    # Unlike those of the process that was here before: answers to that one may still be on the way.
    questions.cookies = now_monotonic() & ~<u64> (QUESTIONS - 1)
    for place in range(QUESTIONS):
        questions.all[place].client.fd = -1


cdef bint ask_doorman(Questions *questions, const Client *client, u32 listener, u32 row) noexcept nogil:
    """Let a client of a service's row wait for the doorman's answer. True: its connection and payment are taken. False:
    there is no doorman, no place or no descriptor."""
    cdef Question *question = NULL
    cdef int kept
    cdef u64 now = now_monotonic()
    cdef u32 place
    if questions.doorman < 0:
        return False
    for place in range(QUESTIONS):
        if questions.all[place].client.fd < 0:
            question = &questions.all[place]
            break
    # Out of what is copied into each child.
    kept = fcntl(client.fd, F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR) if question != NULL else -1
    if kept < 0:
        return False
    close(client.fd)
    questions.cookies += QUESTIONS
    question.client, question.listener, question.row = client[0], listener, row
    question.client.fd = kept
    question.cookie = questions.cookies + place
    question.deadline = now + ANSWER_WITHIN
    if questions.open == 0:
        questions.asked_at = now
    questions.open += 1
    send_question(questions, question)
    return True


cdef void send_question(Questions *questions, const Question *question) noexcept nogil:
    """Ask the doorman; what its socket has no room for is asked again later."""
    cdef QuestionMessage message
    memset(&message, 0, sizeof(message))
    message.cookie, message.row = question.cookie, question.row
    message.family = IPV4 if question.client.peer.family == AF_INET else IPV6
    memcpy(message.address, question.client.peer.address, 16)
    send(questions.doorman, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT)


cdef void take_out(Questions *questions, Question *question, Client *client, u32 *listener) noexcept nogil:
    """End a question: its client, with its connection and payment, is the caller's."""
    client[0], listener[0] = question.client, question.listener
    question.client.fd = -1
    questions.open -= 1


cdef Answer take_answer(Questions *questions, Client *client, u32 *listener) noexcept nogil:
    """Take an answer that has come. ALLOWED or REFUSED: the client, which the doorman has vouched for or not, and the
    number of its listener; else neither."""
    cdef AnswerMessage message
    cdef Question *question
    cdef ssize_t length
    while True:
        length = receive_words(questions.doorman, &message, sizeof(message), NULL)
        if length == -EBADMSG:
            return BAD_ANSWER
        if length != sizeof(message):
            return NO_ANSWER
        question = &questions.all[message.cookie % QUESTIONS]
        if question.client.fd < 0 or question.cookie != message.cookie:
            continue
        take_out(questions, question, client, listener)
        if message.reply != ALLOW:
            return REFUSED
        client.vouched = True
        client.waited = <i64> (now_monotonic() - (question.deadline - ANSWER_WITHIN))
        return ALLOWED


cdef bint time_to_ask_again(Questions *questions, u64 now) noexcept nogil:
    """Whether the open questions were asked so long ago that they shall be asked again; then that is counted from
    now."""
    if questions.open == 0 or now - questions.asked_at <= ASK_AGAIN:
        return False
    questions.asked_at = now
    return True


cdef void ask_again(Questions *questions) noexcept nogil:
    """Send the open questions again: a doorman that died may have taken them along."""
    cdef u32 place
    for place in range(QUESTIONS):
        if questions.all[place].client.fd >= 0:
            send_question(questions, &questions.all[place])


cdef bint take_overdue(Questions *questions, u64 now, Client *client, u32 *listener) noexcept nogil:
    """Take out a client whose answer should have come by `now`; False: there is none (any more)."""
    cdef u32 place
    for place in range(QUESTIONS if questions.open else 0):
        if questions.all[place].client.fd >= 0 and questions.all[place].deadline <= now:
            take_out(questions, &questions.all[place], client, listener)
            return True
    return False
