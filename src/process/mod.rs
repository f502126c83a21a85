//! Children: pipes, memfd, process group, deadline, death with the parent.
