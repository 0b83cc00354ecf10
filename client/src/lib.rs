//! The thin grpclb client. (under construction)
