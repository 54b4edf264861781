//! Admission: webhooks, ValidatingAdmissionPolicy, built-in service account admission.
