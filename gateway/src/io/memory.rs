//! Memory for large tables: asked for in huge pages, so that a random access costs no page walk.

#![expect(unsafe_code, reason = "advice on memory is a system call on raw addresses")]

/// Bytes of a huge page; smaller tables are left alone.
const HUGE_PAGE: usize = 2 << 20;

/// A vector of `count` copies of `value`, in huge pages where the kernel has some.
#[must_use]
pub fn table<T: Clone>(count: usize, value: T) -> Vec<T> {
    let mut table = Vec::with_capacity(count);
    let start = table.as_ptr() as usize;
    let end = start + table.capacity() * size_of::<T>();
    let (start, end) = (start.next_multiple_of(HUGE_PAGE), end / HUGE_PAGE * HUGE_PAGE);
    if start < end {
        // SAFETY: the range lies inside the vector's allocation, and this advice changes how the
        // kernel backs it, never what it holds. A refusal costs speed only.
        let _ =
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
    table.resize(count, value);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_holds_its_value_everywhere() {
        for count in [0, 1, 3 << 20] {
            assert!(table(count, 7_u64).iter().all(|&value| value == 7));
        }
        assert_eq!(table(5, 1_u8).len(), 5);
    }
}
