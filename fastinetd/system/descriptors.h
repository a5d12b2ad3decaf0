/* The lowest number of a descriptor that stays open: a start copies only those below (system/descriptors.py). */
#ifndef FASTINETD_DESCRIPTORS_H
#define FASTINETD_DESCRIPTORS_H

#define FIRST_KEPT_DESCRIPTOR 64

#endif
