"""Receives messages of untrusted processes, and closes sockets that they have had, without waiting for them."""

from fastinetd.system.linux cimport i32


cdef extern from "system/strangers.h" nogil:
    void close_shared(int fd) noexcept
    void keep_awake() noexcept
    void stop_waking() noexcept
    int receive_last_descriptor(int from_) noexcept


cdef void refuse_descriptors(int channel) noexcept nogil
cdef ssize_t receive_words(int channel, void *data, size_t room, i32 *pid) noexcept nogil
cdef void close_channel(int channel) noexcept nogil
