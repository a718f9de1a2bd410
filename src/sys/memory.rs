//! Memory: aligned buffers, and the [`Room`] they are allocated in, which can count them in advance.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const LINE: usize = 64;
const HUGE_PAGE: usize = 2 << 20;

/// A buffer initialised with zeros and aligned to a cache line; a large one uses huge pages where the system has them.
pub struct Buffer<R> {
    data: NonNull<R>,
    len: usize,
}

// SAFETY: a Buffer owns its memory as a Vec does.
unsafe impl<R: Send> Send for Buffer<R> {}
// SAFETY: as above.
unsafe impl<R: Sync> Sync for Buffer<R> {}

impl<R: Copy + Default> Buffer<R> {
    /// `len` zeros; `R` is a number.
    pub fn zeros(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout has a size above zero.
        let data = NonNull::new(unsafe { alloc_zeroed(layout) }.cast::<R>());
        let data = data.unwrap_or_else(|| handle_alloc_error(layout));
        #[cfg(target_os = "linux")]
        if layout.align() == HUGE_PAGE {
            // SAFETY: advice on memory that is ours; its failure changes nothing.
            unsafe { libc::madvise(data.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        Buffer { data, len }
    }
}

impl<R> Buffer<R> {
    fn layout(len: usize) -> Layout {
        let bytes = (len * size_of::<R>()).max(LINE);
        let align = if bytes >= 2 * HUGE_PAGE { HUGE_PAGE } else { LINE };
        Layout::from_size_align(bytes, align).expect("a buffer's size is below isize::MAX")
    }
}

impl<R> Drop for Buffer<R> {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.data.as_ptr().cast(), Self::layout(self.len)) }
    }
}

impl<R> Deref for Buffer<R> {
    type Target = [R];
    fn deref(&self) -> &[R] {
        // SAFETY: `len` elements, initialised with zeros, valid for every type of number.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl<R> DerefMut for Buffer<R> {
    fn deref_mut(&mut self) -> &mut [R] {
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl<R: Copy + Default> Clone for Buffer<R> {
    fn clone(&self) -> Self {
        let mut copy = Buffer::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

/// Where working memory is allocated. Allocations made through a room can be counted in advance: the same code runs, without allocating.
pub struct Room {
    counts: bool,
    bytes: usize,
}

impl Room {
    /// Allocates memory.
    pub fn make<T>(make: impl FnOnce(&mut Room) -> T) -> T {
        make(&mut Room { counts: false, bytes: 0 })
    }

    /// Number of bytes that `make` would allocate.
    pub fn count<T>(make: impl FnOnce(&mut Room) -> T) -> usize {
        let mut room = Room { counts: true, bytes: 0 };
        make(&mut room);
        room.bytes
    }

    /// Whether it only counts, so that everything made in it is empty.
    pub fn counts(&self) -> bool {
        self.counts
    }

    fn take<T>(&mut self, len: usize) -> usize {
        self.bytes = self.bytes.saturating_add(len.saturating_mul(size_of::<T>()));
        if self.counts { 0 } else { len }
    }

    /// `len` zeros.
    pub fn zeros<R: Copy + Default>(&mut self, len: usize) -> Buffer<R> {
        Buffer::zeros(self.take::<R>(len))
    }

    /// An empty vector with capacity for `len` elements.
    pub fn vec<T>(&mut self, len: usize) -> Vec<T> {
        Vec::with_capacity(self.take::<T>(len))
    }

    /// `count` things of equal memory.
    pub fn many<T>(&mut self, count: usize, mut make: impl FnMut(&mut Room) -> T) -> Vec<T> {
        if self.counts {
            let one = Room::count(make);
            self.bytes = self.bytes.saturating_add(one.saturating_mul(count));
            return Vec::new();
        }
        (0..count).map(|_| make(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zero() {
        for len in [0, 1, 17, 1000, 3 << 20] {
            let buffer = Buffer::<f32>::zeros(len);
            assert_eq!(buffer.as_ptr() as usize % LINE, 0);
            assert!(buffer.iter().all(|&x| x == 0.0));
            assert_eq!(buffer.len(), len);
        }
    }

    #[test]
    fn a_room_counts_what_it_makes() {
        let make = |room: &mut Room| {
            (room.zeros::<f32>(10), room.many(3, |room| (room.zeros::<f64>(5), room.vec::<u32>(7))), room.vec::<u8>(9))
        };
        assert_eq!(Room::count(make), 10 * 4 + 3 * (5 * 8 + 7 * 4) + 9);
        let (buffer, many, vec) = Room::make(make);
        assert_eq!((buffer.len(), many.len(), vec.capacity()), (10, 3, 9));
        assert!(many.iter().all(|(zeros, vec)| zeros.len() == 5 && vec.capacity() == 7));
        assert_eq!(Room::count(|room| room.zeros::<u64>(usize::MAX)), usize::MAX);
    }
}
