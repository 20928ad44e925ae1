//! Leases: who serves renews, and who does not is not believed for longer than a lease (decision rule 2).
